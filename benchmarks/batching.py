"""Several passes: in one batch, or in a loop?

    python benchmarks/batching.py

Monodepth2 with ResNet-18 at 192×640, pinned to one core where there is no GPU, freed memory
kept: five forward passes, and three backward passes to all decoder layers after one forward pass.
"Ready" loops are those of grumo_jax/loops.py.
"""

import os
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

if hasattr(os, "sched_setaffinity") and not os.path.exists("/dev/nvidiactl"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

from grumo_jax.cli.memory import keep_memory

keep_memory()

import jax

import grumo_jax
from grumo_jax._internal.hoisting import hoist_invariants
from grumo_jax.activations import apply_model

VIEWS, LOSSES, ROUNDS = 5, 3, 7


def main() -> None:
    """Measure both, ways taking turns."""
    model = grumo_jax.Monodepth2()
    images = jax.random.uniform(jax.random.key(0), (VIEWS, 1, 192, 640, 3))
    variables = jax.jit(model.init)(jax.random.key(0), images[0])

    def depth(image: jax.Array) -> jax.Array:
        return apply_model(model, variables, image).depth

    def backward(over: Callable[[Any, Any], Any]) -> Callable[[jax.Array], Any]:
        def run(images: jax.Array) -> Any:
            depth, pull_back = grumo_jax.activation_vjp(
                model, variables, images[0], model.decoder_layers, readout=lambda out: out.depth
            )
            return over(pull_back, depth * images[:LOSSES, :, :, :, 0])

        return jax.jit(run)

    print(f"{jax.devices()[0].platform}, jax {jax.__version__}")
    print(f"{VIEWS} forward passes")
    compare({"one batch": jax.jit(jax.vmap(depth)), "loop": jax.jit(loop(depth))}, images)
    print(f"one forward and {LOSSES} backward passes")
    ways = {
        "one batch": backward(lambda f, xs: jax.vmap(f)(xs)),
        "loop": backward(jax.lax.map),
        "loop, ready": backward(
            lambda f, xs: jax.lax.map(hoist_invariants(f, xs[0], on_cpu=True), xs)
        ),
    }
    compare(ways, images)


def loop(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """The function in a loop over its argument's first axis."""
    return lambda xs: jax.lax.map(function, xs)


def compare(ways: Mapping[str, Callable[[Any], Any]], images: jax.Array) -> None:
    """Print the median time of each way."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        jax.block_until_ready(way(images))
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            jax.block_until_ready(way(images))
            seconds[name].append(time.perf_counter() - start)
    for name, values in seconds.items():
        print(f"  {name:<20}{1000 * statistics.median(values):8.1f} ms")


if __name__ == "__main__":
    main()
