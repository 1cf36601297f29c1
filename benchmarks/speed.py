"""Time of every estimator for one image and for batches, beside PyTorch, plain and optimised.

    python benchmarks/speed.py --rounds 7                    # the table
    python benchmarks/speed.py --batches 1 2 4 8             # throughput
    python benchmarks/speed.py --size 224 288 --json nyu.json
    python benchmarks/speed.py --dtype bfloat16
    python benchmarks/speed.py --memory                      # peak memory, a process for each

Monodepth2 with ResNet-18, the same drawn weights on all sides, pinned to one core where there is no
GPU, freed memory kept, taking turns. "AUSE" compares Grad's maps with ground truth at 18,000
points; "image evaluated" is Grad and that. Fails unless Grad's maps and their AUSE agree. On a GPU
PyTorch runs there, too: eager, without CUDA graphs, its convolutions chosen by trial as XLA's are;
both sides may round the factors of products to TF32, but not where they are compared. Needs
PyTorch (extra: convert).
"""

import argparse
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

if hasattr(os, "sched_setaffinity") and not os.path.exists("/dev/nvidiactl"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

from grumo_jax.cli.memory import keep_memory

keep_memory()

import jax
import jax.numpy as jnp
import numpy as np
import torch
from scored import points_of, scan, score, score_optimised, score_plain, targets_of
from torch_monodepth2 import Monodepth2
from torch_optimised import OPTIMISED, PLAIN, prepare

import grumo_jax

SIDES = ("grumo_jax", "PyTorch plain", "PyTorch optimised")
AUSE, WHOLE = "AUSE", "image evaluated"
ROWS = (*PLAIN, AUSE, WHOLE)
Call = Callable[[], Any]


def main() -> None:
    """Parse the options; measure time, or memory in processes of their own."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", type=int, nargs=2, default=(192, 640), metavar=("H", "W"))
    parser.add_argument("--batches", type=int, nargs="+", default=[1])
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--json", help="write the numbers to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    use_gpu_fully()
    if options.alone:
        run_alone(options)
    elif options.memory:
        measure_memory(options)
    else:
        measure_time(options)


def use_gpu_fully() -> None:
    """Let PyTorch choose its convolutions by trial and use TF32, as XLA does."""
    if (jax.default_backend() == "gpu") != torch.cuda.is_available():
        sys.exit("JAX and PyTorch do not both find the GPU; install both for it, or none")
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True


@contextmanager
def full_precision() -> Iterator[None]:
    """Products of float32 as they are on both sides, for comparing results on GPUs."""
    if not torch.cuda.is_available():
        yield
        return
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    with jax.default_matmul_precision("highest"):
        yield
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True


def measure_time(options: Any) -> None:
    """Print a table for each batch size."""
    numbers: dict[str, Any] = {}
    for batch in options.batches:
        calls = calls_of(options, batch)
        compiled = {name: timed(call) for name, call in calls["grumo_jax"].items()}
        with full_precision():
            check_agreement(calls, options.dtype)
        for side, name in itertools.product(SIDES, ROWS):
            calls[side][name]()
        seconds = {side: {name: list[float]() for name in ROWS} for side in SIDES}
        for _ in range(options.rounds):
            for name in ROWS:
                for side in SIDES:
                    seconds[side][name].append(timed(calls[side][name]))
        medians = {
            side: {name: 1000 * statistics.median(s) for name, s in found.items()}
            for side, found in seconds.items()
        }
        numbers[str(batch)] = {"ms": medians, "compile_s": compiled}
        report(options, batch, medians, compiled)
    write(options, {"batches": numbers})


def calls_of(options: Any, batch: int) -> dict[str, dict[str, Call]]:
    """{side: {estimator: call}}"""
    images = np.random.default_rng(0).random((batch, *options.size, 3), np.float32)
    return {side: calls_of_side(side, options, images) for side in SIDES}


def calls_of_side(side: str, options: Any, images: np.ndarray) -> dict[str, Call]:
    """{estimator: call} of one side, with weights that are the same for all."""
    torch.manual_seed(0)
    network = Monodepth2().eval()
    if side == "grumo_jax":
        return calls_of_ours(network, options.dtype, jnp.asarray(images))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    optimised = side == "PyTorch optimised"
    network, tensor = prepare(network, images, optimised)
    dtype = getattr(torch, options.dtype)
    network, tensor = network.to(device, dtype), tensor.to(device, dtype)

    programs = OPTIMISED if optimised else PLAIN

    def run(name: str) -> list[torch.Tensor]:
        return [m.float() for m in programs[name](network, tensor)]

    def call(name: str) -> Call:
        return lambda: [m.cpu().numpy()[:, 0] for m in run(name)]

    truth = scan(len(images))
    points = points_of(truth, device)

    def scored(maps: Any) -> Any:
        return score_optimised(maps, points) if optimised else score_plain(maps, truth)

    return {name: call(name) for name in programs} | with_scores(
        lambda: run("Grad, layer 6"), scored
    )


def ours(network: Monodepth2, dtype: str) -> tuple[dict[str, grumo_jax.Estimator], Any]:
    """Estimators and variables of the same network."""
    model, variables = grumo_jax.port_monodepth2(*network.arrays())
    model = model.clone(dtype=jnp.bfloat16 if dtype == "bfloat16" else None)
    grad = grumo_jax.GradientUncertainty
    estimators: dict[str, grumo_jax.Estimator] = {
        "forward": grumo_jax.ConstantBaseline(model),
        "Grad, layer 6": grad.paper(model),
        "Grad, all layers": grad.paper(model, layers="decoder", combine="std"),
        "Var": grumo_jax.TestTimeVariance(model),
        "In-Drop": grumo_jax.InferenceDropout(model),
    }
    return estimators, variables


def calls_of_ours(network: Monodepth2, dtype: str, images: jax.Array) -> dict[str, Call]:
    """{estimator: call}"""
    estimators, variables = ours(network, dtype)

    def call(estimator: Any) -> Call:
        def run() -> Any:
            found = estimator(variables, images, jax.random.key(0))
            return [np.asarray(m) for m in (found.depth, found.uncertainty)]

        return run

    calls = {name: call(estimator) for name, estimator in estimators.items()}
    grad, (batch, height, width, _) = estimators["Grad, layer 6"], images.shape
    targets = jax.device_put(targets_of(scan(batch), (height, width)))

    def scored(estimate: Any) -> Any:
        return score(grad.network, estimate, targets)

    return calls | with_scores(lambda: grad(variables, images), scored)


def with_scores(grad: Call, scored: Callable[[Any], Any]) -> dict[str, Call]:
    """Calls that score what Grad gives: once given, and together with Grad."""
    given: list[Any] = []

    def score_given() -> Any:
        given.extend([grad()] if not given else [])
        return scored(given[0])

    return {AUSE: score_given, WHOLE: lambda: scored(grad())}


def timed(call: Call) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def check_agreement(calls: dict[str, dict[str, Call]], dtype: str) -> None:
    """Fail unless all sides computed the same."""
    tolerance = 1e-2 if dtype == "float32" else 0.3
    for name in ("Grad, layer 6", "Grad, all layers"):
        depth, uncertainty = calls["grumo_jax"][name]()
        for side in SIDES[1:]:
            other_depth, other = calls[side][name]()
            np.testing.assert_allclose(depth, other_depth, rtol=tolerance, err_msg=side)
            assert np.mean(np.abs(uncertainty - other)) < tolerance, f"{name}, {side}"
    for metric, ours in calls["grumo_jax"][WHOLE]().items():
        for side in SIDES[1:]:
            theirs = calls[side][WHOLE]()[metric]
            np.testing.assert_allclose(ours, theirs, rtol=tolerance, err_msg=f"{metric}, {side}")


def report(options: Any, batch: int, ms: dict[str, Any], compiled: dict[str, float]) -> None:
    """Print a Markdown table."""
    print(
        f"\n{platform.processor() or platform.machine()}, {jax.devices()[0].device_kind}; jax "
        f"{jax.__version__}, torch {torch.__version__}; {options.size[0]}×{options.size[1]}, batch "
        f"{batch}, {options.dtype}, {options.rounds} rounds\n"
    )
    print("| ms an image | grumo_jax | plain | optimised | × plain | × optimised | compile s |")
    print("|---|---|---|---|---|---|---|")
    for name in ROWS:
        ours, plain, optimised = (ms[side][name] / batch for side in SIDES)
        digits = 0 if ours > 10 else 2
        times = " | ".join(f"{t:.{digits}f}" for t in (ours, plain, optimised))
        print(
            f"| {name} | {times} | {plain / ours:.2f} | {optimised / ours:.2f} | "
            f"{compiled[name]:.1f} |"
        )


def measure_memory(options: Any) -> None:
    """Peak memory of each call, above that of the process before it, in one of its own."""
    print("| peak MB, compiling not counted | " + " | ".join(SIDES) + " |")
    print("|---|---|---|---|")
    numbers: dict[str, dict[str, float]] = {}
    for name in PLAIN:
        command = [sys.executable, __file__, *sys.argv[1:], "--alone", name]
        found = [subprocess.check_output([*command, side], text=True).strip() for side in SIDES]
        numbers[name] = dict(zip(SIDES, map(float, found), strict=True))
        print(f"| {name} | " + " | ".join(found) + " |")
    write(options, {"megabytes": numbers})


def write(options: Any, numbers: dict[str, Any]) -> None:
    """Write the numbers to the file that was asked for."""
    if options.json:
        about = {"size": options.size, "dtype": options.dtype}
        with open(options.json, "w") as file:
            json.dump(about | numbers, file, indent=1)


def run_alone(options: Any) -> None:
    """Print the peak memory of one call in MB."""
    name, side = options.alone
    images = np.random.default_rng(0).random((1, *options.size, 3), np.float32)
    if side == "grumo_jax":
        print(f"{compiled_megabytes(name, options.dtype, images):.0f}")
        return
    print(f"{needed_megabytes(calls_of_side(side, options, images)[name]):.0f}")


def needed_megabytes(call: Call) -> float:
    """What a call needs beyond what is there."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return (torch.cuda.max_memory_allocated() - before) / 1e6
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    call()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / 1e6


def compiled_megabytes(name: str, dtype: str, images: np.ndarray) -> float:
    """What the compiled program allocates."""
    estimators, variables = ours(Monodepth2().eval(), dtype)

    program = jax.jit(estimators[name]).lower(variables, images, jax.random.key(0))
    memory: Any = program.compile().memory_analysis()
    return (memory.temp_size_in_bytes + memory.output_size_in_bytes) / 1e6


if __name__ == "__main__":
    main()
