"""Five forward passes in one batch, or one after another? On CPUs the latter is faster.

    python benchmarks/batching.py

Monodepth2 with ResNet-18 at 192×640, pinned to one core where the platform is a CPU.
"""

import os
import statistics
import time

import jax

if hasattr(os, "sched_setaffinity"):
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})

import grumo_jax
from grumo_jax.activations import apply_model

VIEWS = 5


def main() -> None:
    """Measure both, taking turns."""
    model = grumo_jax.Monodepth2()
    images = jax.random.uniform(jax.random.key(0), (VIEWS, 1, 192, 640, 3))
    variables = jax.jit(model.init)(jax.random.key(0), images[0])

    def depth(image: jax.Array) -> jax.Array:
        return apply_model(model, variables, image).depth

    ways = {
        "one batch": jax.jit(jax.vmap(depth)),
        "one after another": jax.jit(lambda images: jax.lax.map(depth, images)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for way in ways.values():
        way(images).block_until_ready()
    for _ in range(7):
        for name, way in ways.items():
            start = time.perf_counter()
            way(images).block_until_ready()
            seconds[name].append(time.perf_counter() - start)
    print(f"{jax.devices()[0].platform}, jax {jax.__version__}, {VIEWS} images")
    for name, values in seconds.items():
        print(f"{name:<20}{1000 * statistics.median(values):8.1f} ms")


if __name__ == "__main__":
    main()
