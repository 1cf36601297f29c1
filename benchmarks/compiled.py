"""What XLA's compilers make of the programs for a TPU or a GPU that is not there.

    pip install 'jax[tpu]'    && python benchmarks/compiled.py tpu
    pip install 'jax[cuda13]' && python benchmarks/compiled.py gpu --batch 8

Says whether all of them compile, and how much memory they need beside arguments and results. Of a
TPU the cycles are XLA's own estimate; of a GPU, kernels and the bytes they read and write are
counted, every loop once. No convolution is chosen by trial, as it is where there is a device.
Nothing is timed: a guide to which of two forms is better, and no measurement.
"""

import argparse
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"
# Otherwise the TPU's compiler first asks a cloud that is not there about its machine.
os.environ |= {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import topologies
from jax.sharding import SingleDeviceSharding
from training_step import case_settings, make_arrays

import grumo_jax
from grumo_jax.ablation import Grid, ablate_settings
from grumo_jax.training.state import (
    initial_state,
    initial_variables,
    make_optimiser,
    make_schedule,
)
from grumo_jax.training.step import make_step

H200 = Path(__file__).parent / "h200.txtpb"
NO_TRIALS: dict[str, str | bool] = {"xla_gpu_autotune_level": "0"}
FREE = ("parameter", "constant", "get-tuple-element", "tuple", "bitcast")
"""What is no kernel."""
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4}
MEGABYTE = 1e6


def main() -> None:
    """Print a row for each program as soon as it is compiled."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("device", choices=("tpu", "gpu"))
    parser.add_argument("--topology", default="v5e:2x2", help="which TPU; the GPU is an H200")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--size", type=int, nargs=2, default=(192, 640), metavar=("H", "W"))
    parser.add_argument("--only", nargs="+", metavar="PROGRAM")
    options = parser.parse_args()
    try:
        device = SingleDeviceSharding(find_device(options.device, options.topology))
    except (RuntimeError, NotImplementedError) as problem:
        sys.exit(f"cannot compile for it ({problem}); install jax[tpu] or jax[cuda13]")
    programs = make_programs(options.batch, tuple(options.size))
    if unknown := set(options.only or ()) - set(programs):
        sys.exit(f"no program is called {unknown.pop()!r}; there are {', '.join(programs)}")
    columns = ["Mcycles"] if options.device == "tpu" else ["kernels", "read and written, MB"]
    titles = [f"batch {options.batch}", *columns, "memory, MB", "compiled in s"]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}", flush=True)
    for name in options.only or programs:
        function, arguments = programs[name]
        start = time.perf_counter()
        program: Any = compile_for(device, options.device, function, arguments)
        seconds = time.perf_counter() - start
        memory = program.memory_analysis().temp_size_in_bytes / MEGABYTE
        found = [*costs(options.device, program.as_text()), f"{memory:.0f}", f"{seconds:.0f}"]
        print(f"| {name} | {' | '.join(found)} |", flush=True)


def find_device(kind: str, topology: str) -> Any:
    """A device that can be compiled for, and nothing else."""
    if kind == "tpu":
        return topologies.get_topology_desc(topology, "tpu").devices[0]
    about = {"target_config": H200.read_text(), "topology": "1x1x1"}
    return topologies.get_topology_desc("", "cuda", **about).devices[0]


def compile_for(device: Any, kind: str, function: Any, arguments: Any) -> jax.stages.Compiled:
    """A function of such arguments, compiled for a device."""
    placed = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), arguments
    )
    options = NO_TRIALS if kind == "gpu" else {}
    return jax.jit(function).lower(*placed).compile(compiler_options=options)


def make_programs(
    batch: int, size: tuple[int, int]
) -> dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]:
    """{name: (function, arguments, as arrays or as their forms)}."""
    model = grumo_jax.Monodepth2()
    key, images = jax.random.key(0), jax.ShapeDtypeStruct((batch, *size, 3), jnp.float32)
    variables = jax.eval_shape(model.init, key, images)
    grad = grumo_jax.GradientUncertainty
    estimators = {
        "forward": grumo_jax.ConstantBaseline(model),
        "Grad, layer 6": grad.paper(model),
        "Grad, all layers": grad.paper(model, layers="decoder", combine="std"),
        "grad-averaged": grad.averaged(model),
        "Var": grumo_jax.TestTimeVariance(model),
        "In-Drop": grumo_jax.InferenceDropout(model),
    }
    one_signal: Any = {"references": {"flip": grumo_jax.Flip()}, "losses": ["squared"]}
    grid = Grid.of(model, variables, images, **one_signal)

    def ablation(variables: Any, images: jax.Array) -> Any:
        return ablate_settings(grid, model, variables, images, lambda _, u: u.mean((1, 2)))

    return {
        **{name: (partial(maps, e), (variables, images, key)) for name, e in estimators.items()},
        "11 layers × 4 reductions": (ablation, (variables, images)),
        "training step": training(batch, size),
    }


def maps(
    estimator: Any, variables: Any, images: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """What is asked for; the rest need not be computed."""
    estimate = estimator(variables, images, key)
    return estimate.depth, estimate.uncertainty


def training(batch: int, size: tuple[int, int]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A step of `grumo train kitti-mono`, with the papers' loss."""
    settings, steps = case_settings("kitti-mono", list(size), batch), 1000
    optimiser = make_optimiser(settings, make_schedule(settings, steps))
    state = jax.eval_shape(partial(initial_state, optimiser=optimiser), initial_variables(settings))
    step = make_step(settings, steps)
    return lambda state, arrays: step(state, arrays, None), (state, make_arrays(settings))


def costs(kind: str, program: str) -> list[str]:
    """The cells of a compiled program's text."""
    if kind == "tpu":
        cycles = sum(map(int, re.findall(r'"estimated_cycles":"(\d+)"', program)))
        return [f"{cycles / 1e6:.1f}"]
    traffic = list(kernels(program))
    return [str(len(traffic)), f"{sum(traffic) / MEGABYTE:.0f}"]


def kernels(program: str) -> Iterator[int]:
    """Bytes that each kernel of a GPU's program reads and writes."""
    main_part = program[program.index("\nENTRY ") :]
    sizes: dict[str, int] = {}
    line = r"%([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*?)\)"
    for name, form, operation, operands in re.findall(line, main_part):
        sizes[name] = bytes_of(form)
        if operation not in FREE:
            read = re.findall(r"%([\w.-]+)", operands)
            yield sizes[name] + sum(sizes.get(operand, 0) for operand in read)


def bytes_of(form: str) -> int:
    """Of an array or of several, written like f32[2,3]."""
    found = re.findall(r"(\w+)\[([\d,]*)\]", form)
    return sum(
        BYTES.get(kind, 0) * int(np.prod([int(n) for n in shape.split(",") if n]))
        for kind, shape in found
    )


if __name__ == "__main__":
    main()
