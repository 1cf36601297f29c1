"""Which share of what a device can do the estimators reach.

    python benchmarks/roofline.py --rounds 7
    python benchmarks/roofline.py --dtype bfloat16 --batch 8

A program takes at least its operations / the device's rate, and at least the bytes of its arguments
and results / the device's bandwidth. Rate and bandwidth are measured here, by a large matrix
product of the same dtype and by a copy. Operations are those of convolutions and matrix products in
the program as it is traced. Traffic is what XLA says the compiled one reads and writes, its inner
results included, which a cache may hold, and loops counted once. Monodepth2 with ResNet-18 and
drawn weights; pinned to one core where there is no GPU. Needs PyTorch (extra: convert).
"""

import argparse
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.extend import core
from jax.interpreters.partial_eval import dce_jaxpr
from speed import ours, timed
from torch_monodepth2 import Monodepth2

SIDE, COPIED = {"cpu": 2048}, {"cpu": 2**28}
"""Of the square matrices that are multiplied, and bytes that are copied; elsewhere more."""


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--size", type=int, nargs=2, default=(192, 640), metavar=("H", "W"))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    rate, bandwidth = measure_rate(options.dtype, options.rounds), measure_copy(options.rounds)
    print(
        f"{jax.devices()[0].device_kind}, jax {jax.__version__}, {options.dtype}, batch "
        f"{options.batch}: {rate / 1e9:,.0f} GFLOP/s, {bandwidth / 1e9:,.0f} GB/s\n"
    )
    print("| | GFLOP | at least ms | ms | share | traffic, GB |\n|---|---|---|---|---|---|")
    images = jax.random.uniform(jax.random.key(0), (options.batch, *options.size, 3))
    estimators, variables = ours(Monodepth2().eval(), options.dtype)
    arguments = variables, images, jax.random.key(0)
    for name, estimator in estimators.items():
        traced = jax.jit(partial(maps, estimator)).trace(*arguments)
        program = traced.lower().compile()
        needed, _ = dce_jaxpr(traced.jaxpr.jaxpr, [True] * len(traced.jaxpr.out_avals))
        flops, memory = operations(needed), cast(Any, program.memory_analysis())
        moved = memory.argument_size_in_bytes + memory.output_size_in_bytes
        floor = max(flops / rate, moved / bandwidth)
        seconds = fastest(partial(program, *arguments), options.rounds)
        times = f"{1000 * floor:.2f} | {1000 * seconds:.2f} | {floor / seconds:.0%}"
        traffic = program.cost_analysis()["bytes accessed"]
        print(f"| {name} | {flops / 1e9:.1f} | {times} | {traffic / 1e9:.2f} |")


def maps(
    estimator: Any, variables: Any, images: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """What is asked for; the rest need not be computed."""
    estimate = estimator(variables, images, key)
    return estimate.depth, estimate.uncertainty


def operations(jaxpr: core.Jaxpr) -> float:
    """Of convolutions and matrix products; of loops those of all turns, of branches the most."""
    found = 0.0
    for equation in jaxpr.eqns:
        name, parameters = equation.primitive.name, equation.params
        turns = parameters["length"] if name == "scan" else 1
        together = max if name == "cond" else sum
        found += turns * together([operations(inner) for inner in _inner(parameters)] or [0])
        if name in ("conv_general_dilated", "dot_general"):
            variables = (*equation.invars[:2], equation.outvars[0])
            left, right, result = (cast(jax.core.ShapedArray, v.aval) for v in variables)
            found += 2 * result.size * _summed(parameters["dimension_numbers"], left, right)
    return found


def _inner(parameters: dict[str, Any]) -> Iterator[core.Jaxpr]:
    for value in jax.tree.leaves(list(parameters.values())):
        if isinstance(value, core.ClosedJaxpr):
            yield value.jaxpr
        elif isinstance(value, core.Jaxpr):
            yield value


def _summed(dimensions: Any, left: Any, right: Any) -> int:
    """How many products make one number of a convolution's or a matrix product's result."""
    if hasattr(dimensions, "rhs_spec"):
        return math.prod(right.shape) // right.shape[dimensions.rhs_spec[0]]
    (contracted, _), _ = dimensions
    return math.prod(left.shape[axis] for axis in contracted)


def measure_rate(dtype: str, rounds: int) -> float:
    """Operations a second in a product of square matrices."""
    side = SIDE.get(jax.default_backend(), 8192)
    matrix = jax.random.normal(jax.random.key(0), (side, side), dtype)
    product = jax.jit(jnp.matmul)
    return 2 * side**3 / fastest(lambda: product(matrix, matrix), rounds)


def measure_copy(rounds: int) -> float:
    """Bytes a second, read and written, in an addition."""
    count = COPIED.get(jax.default_backend(), 2**30) // 4
    numbers = jnp.zeros(count)
    add = jax.jit(lambda x: x + 1)
    return 8 * count / fastest(lambda: add(numbers), rounds)


def fastest(call: Callable[[], Any], rounds: int) -> float:
    """Seconds of the fastest call after the first."""
    jax.block_until_ready(call())
    return min(timed(lambda: jax.block_until_ready(call())) for _ in range(rounds))


if __name__ == "__main__":
    main()
