"""Time and memory of a full training step: this library beside straightforward PyTorch.

    python benchmarks/training_step.py --rounds 7
    python benchmarks/training_step.py --preset kitti-mono --size 192 640 --batch 12

Monodepth2 on three frames: depth and pose network in training mode, the loss over four scales with
two views and auto-masking, backward pass, gradients limited where the preset does it, Adam. No
augmentation, a constant learning rate. Both sides start from the same weights, see the same uint8
pictures, and must agree in the first step's loss and norm of the gradients. They run in one
process, pinned to one core, and take turns; memory and compilation are measured in a process of
their own each. Needs PyTorch (extra: convert). Where JAX finds a GPU both use it, or JAX alone if
PyTorch has no CUDA.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if hasattr(os, "sched_setaffinity"):  # before jax and torch count the cores
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import jax
import numpy as np
from flax import traverse_util

import grumo_jax
from grumo_jax.cli.memory import keep_memory
from grumo_jax.networks.porting.monodepth2 import ENCODER_RULES
from grumo_jax.networks.porting.rules import Rule, apply_rules, conv_kernel
from grumo_jax.training.presets import preset
from grumo_jax.training.settings import Settings
from grumo_jax.training.state import (
    initial_state,
    initial_variables,
    make_optimiser,
    make_schedule,
)
from grumo_jax.training.step import make_step

CASES = {"synthetic-mono": ((64, 224), 8), "kitti-mono": ((192, 640), 2)}
"""{preset: (size, batch) by default}."""
NAMES = {"jax": "grumo_jax", "torch": "PyTorch"}
STEPS_FOR_MEMORY = 3
MEGABYTE = 2**20

Arrays = dict[str, np.ndarray]
Step = Callable[[], tuple[float, float]]
"""Take a step; return loss and norm of the gradients."""


def main() -> None:
    """Parse the options, measure each case, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--preset", choices=CASES, help="both by default")
    parser.add_argument("--size", type=int, nargs=2, metavar=("H", "W"))
    parser.add_argument("--batch", type=int)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--json", type=Path, help="write the numbers to this file")
    parser.add_argument("--alone", choices=NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.preset is None and (options.size or options.batch):
        parser.error("--size and --batch need a --preset")
    keep_memory()  # for both, as `grumo train` does
    if options.alone:
        settings = case_settings(options.preset, options.size, options.batch)
        print(json.dumps(measure_alone(options.alone, settings)))
        return
    sides = [side for side in NAMES if side == "jax" or not on_gpu() or torch_has_cuda()]
    results = {}
    for name in [options.preset] if options.preset else CASES:
        settings = case_settings(name, options.size, options.batch)
        results[name] = {
            "size": settings.size,
            "batch": settings.batch_size,
            "alone": {side: run_twice(side, name, settings) for side in sides},
            "seconds": take_turns(settings, sides, options.rounds),
        }
    report(results, options.rounds)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


def case_settings(name: str, size: list[int] | None, batch: int | None) -> Settings:
    """The preset with the papers' loss, without what differs from step to step."""
    default_size, default_batch = CASES[name]
    changes = {"size": size or default_size, "batch_size": batch or default_batch}
    plain = {"flip": 0, "jitter": 0, "schedule": "constant", "warmup_steps": 0}
    papers = {"motion": "network", "resolution": "full", "initial_depth": None}
    return preset(name).replace({**changes, **plain, **papers})


def on_gpu() -> bool:
    """Whether JAX found a GPU."""
    return jax.default_backend() == "gpu"


def torch_has_cuda() -> bool:
    """Whether PyTorch is there and can use the GPU."""
    try:
        import torch
    except ImportError:
        return False
    return torch.cuda.is_available()


def make_arrays(settings: Settings) -> Arrays:
    """Smooth coloured patterns, a little to the left and right of each other, and a camera."""
    (height, width), rng = settings.size, np.random.default_rng(0)
    x, y = np.arange(width, dtype=np.float32) / height, np.arange(height, dtype=np.float32) / height
    waves = rng.uniform(-30, 30, (24, 2)).astype(np.float32)
    phases = rng.uniform(0, 2 * np.pi, (settings.batch_size, 24, 3, 1, 1)).astype(np.float32)

    def picture(moved: float) -> np.ndarray:
        grid = waves[:, 0, None, None] * (x + moved / height) + waves[:, 1, None, None] * y[:, None]
        pattern = np.mean(np.sin(grid[None, :, None] + phases), axis=1)
        return (255 * (0.5 + pattern).clip(0, 1)).astype(np.uint8).transpose(0, 2, 3, 1)

    centre = ((width - 1) / 2, (height - 1) / 2)
    camera = [[0.58 * width, 0, centre[0]], [0, 1.92 * height, centre[1]], [0, 0, 1]]
    return {
        "image": picture(0),
        "previous": picture(-1.7),
        "following": picture(1.3),
        "intrinsics": np.tile(np.asarray(camera, np.float32), (settings.batch_size, 1, 1)),
    }


def jax_step(settings: Settings, variables: dict[str, Any]) -> Step:
    """This library's own training step."""
    steps = 1000
    optimiser = make_optimiser(settings, make_schedule(settings, steps))
    state, step = initial_state(variables, optimiser), make_step(settings, steps)
    arrays = jax.device_put(make_arrays(settings))

    def run() -> tuple[float, float]:
        nonlocal state
        state, metrics = step(state, arrays, None)
        return float(metrics["loss"]), float(metrics["gradient_norm"])

    return run


def torch_step(settings: Settings, networks: Any) -> Step:
    """PyTorch's."""
    import torch
    from torch_training import Training

    device = "cuda" if on_gpu() else "cpu"
    training = Training(networks.to(device), settings.learning_rate, settings.gradient_clip)
    arrays = make_arrays(settings)
    intrinsics = torch.from_numpy(arrays.pop("intrinsics")).to(device)
    pictures = {
        name: torch.from_numpy(value.transpose(0, 3, 1, 2).copy()).to(device)
        for name, value in arrays.items()
    }
    return lambda: training.step(pictures, intrinsics)


def make_networks(settings: Settings) -> Any:
    """PyTorch's networks, with weights of its own."""
    import torch
    from torch_training import Networks

    torch.manual_seed(0)
    torch.set_num_threads(1)
    return Networks(
        settings.encoder_widths,
        settings.decoder_widths,
        settings.pose_encoder_widths,
        settings.pose_width,
    )


def port(networks: Any) -> dict[str, Any]:
    """The weights of PyTorch's networks, as this library's training starts from them."""

    def arrays(part: Any) -> dict[str, np.ndarray]:
        return {name: value.numpy().copy() for name, value in part.state_dict().items()}

    _, depth = grumo_jax.port_monodepth2(arrays(networks.encoder), arrays(networks.depth))
    pose = arrays(networks.pose)
    rules = []
    for layer in ("squeeze", "conv1", "conv2", "pose"):
        rules.append(Rule(rf"{layer}\.weight", f"params/{layer}/kernel", conv_kernel))
        rules.append(Rule(rf"{layer}\.bias", f"params/{layer}/bias"))
    named = {name.removeprefix("encoder."): value for name, value in pose.items()}
    ported = apply_rules(named, (*ENCODER_RULES, *rules), "pose network")
    nested = traverse_util.unflatten_dict(ported, sep="/")
    return {"depth": depth, "pose": jax.tree.map(jax.numpy.asarray, nested)}


def take_turns(settings: Settings, sides: list[str], rounds: int) -> dict[str, list[float]]:
    """Seconds of the steps of each side, after a first one in which both must agree."""
    if "torch" in sides:
        networks = make_networks(settings)
        ways = {"jax": jax_step(settings, port(networks)), "torch": torch_step(settings, networks)}
    else:
        ways = {"jax": jax_step(settings, initial_variables(settings))}
    first = {side: way() for side, way in ways.items()}
    print(f"{settings.size}: loss and norm of the gradients {first}", file=sys.stderr)
    check_agreement(first)
    seconds: dict[str, list[float]] = {side: [] for side in ways}
    for _ in range(rounds):
        for side, way in ways.items():
            start = time.perf_counter()
            way()
            seconds[side].append(time.perf_counter() - start)
    return seconds


def check_agreement(first: dict[str, tuple[float, float]]) -> None:
    """Fail unless both programs computed the same."""
    assert all(np.isfinite(value).all() for value in first.values()), first
    if len(first) == 2:
        # GPUs multiply matrices in TF32.
        slack = 10 if on_gpu() else 1
        np.testing.assert_allclose(first["jax"][0], first["torch"][0], rtol=slack * 1e-4)
        np.testing.assert_allclose(first["jax"][1], first["torch"][1], rtol=slack * 1e-2)


def run_twice(side: str, name: str, settings: Settings) -> dict[str, float]:
    """`measure_alone` in fresh processes: with compilation, and with programs compiled before."""
    size = [str(n) for n in settings.size]
    command = [sys.executable, __file__, "--alone", side, "--preset", name, "--size", *size]
    command += ["--batch", str(settings.batch_size)]
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache}
        first, again = (
            json.loads(subprocess.check_output(command, env=environment)) for _ in range(2)
        )
    return {**again, **{f"new_{key}": value for key, value in first.items()}}


def measure_alone(side: str, settings: Settings) -> dict[str, float]:
    """Seconds of the first step, and memory in MB before it and at most."""
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    if side == "jax":
        step = jax_step(settings, initial_variables(settings))
    else:
        step = torch_step(settings, make_networks(settings))
    before = peak_memory()
    start, start_cpu = time.perf_counter(), time.process_time()
    step()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    for _ in range(STEPS_FOR_MEMORY):
        step()
    return {
        "seconds": seconds,
        "cpu_seconds": cpu_seconds,
        "before_mb": before,
        "peak_mb": peak_memory(),
        "gpu_peak_mb": gpu_peak_memory(side),
    }


def peak_memory() -> float:
    """Peak of the process's memory in MB."""
    # Not getrusage: its peak counts the parent's from before the program was replaced.
    if (status := Path("/proc/self/status")).exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def gpu_peak_memory(side: str) -> float:
    """Peak of the GPU's memory in MB; 0 where there is none."""
    if not on_gpu():
        return 0.0
    if side == "torch":
        import torch

        return torch.cuda.max_memory_allocated() / MEGABYTE
    return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0) / MEGABYTE


def report(results: dict[str, Any], rounds: int) -> None:
    """Print machine, versions, command, and a Markdown table."""
    machine = jax.devices()[0].device_kind if on_gpu() else "one core"
    versions = [f"Python {platform.python_version()}", f"jax {jax.__version__}"]
    if "torch" in sys.modules:
        versions.append(f"torch {sys.modules['torch'].__version__}")
    print(f"{platform.machine()}, {machine}; {', '.join(versions)}; {rounds} rounds")
    print(f"`python {' '.join(sys.argv)}`\n")
    titles = ["", "median ms", "fastest", "slowest", "images/s"]
    titles += ["first step s (CPU s)", "compiled before", "MB before", "peak", "compiling too"]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for name, result in results.items():
        for side in result["seconds"]:
            print(f"| {' | '.join(row(name, result, side))} |")
    for name, result in results.items():
        if len(result["seconds"]) == 2:
            ours, theirs = (statistics.median(result["seconds"][side]) for side in NAMES)
            print(f"\n{name}: {theirs / ours:.2f} times as fast as PyTorch")


def row(name: str, result: dict[str, Any], side: str) -> list[str]:
    """The cells of one side of a case. Memory is the GPU's where there is one."""
    alone, seconds = result["alone"][side], result["seconds"][side]
    size, median = "×".join(map(str, result["size"])), statistics.median(seconds)
    cells = [f"{name}, {size}, batch {result['batch']}, {NAMES[side]}"]
    cells += [f"{1000 * t:.0f}" for t in (median, min(seconds), max(seconds))]
    cells.append(f"{result['batch'] / median:.2f}")
    cells += [f"{alone[f'{p}seconds']:.1f} ({alone[f'{p}cpu_seconds']:.1f})" for p in ("new_", "")]
    kind = "gpu_peak_mb" if on_gpu() else "peak_mb"
    cells += [f"{alone[key]:.0f}" for key in ("before_mb", kind, f"new_{kind}")]
    return cells


if __name__ == "__main__":
    main()
