"""Time of depth and uncertainty for one image: this library beside straightforward PyTorch.

    python benchmarks/predict_vs_pytorch.py --size 192 640 --rounds 15

Both run the same Monodepth2 (ResNet-18, the same drawn weights, flip reference, layer 6) in
one process, pinned to one core, taking turns, and must agree in their results. Needs PyTorch
(extra: convert).
"""

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from typing import Any

CORE = min(os.sched_getaffinity(0))
os.sched_setaffinity(0, {CORE})  # before jax and torch count the cores

import jax
import numpy as np
import torch
from torch_monodepth2 import Monodepth2, gradient_uncertainty

import grumo_jax


def timed(call: Callable[[], Any]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Parse the options, check that both agree, measure, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", type=int, nargs=2, default=(192, 640), metavar=("H", "W"))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", help="write the numbers to this file")
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = Monodepth2().eval()
    model, variables = grumo_jax.port_monodepth2(*network.arrays())
    estimator = grumo_jax.GradientUncertainty.paper(model)
    pixels = np.random.default_rng(0).random((1, *options.size, 3), np.float32)
    image, theirs = jax.numpy.asarray(pixels), torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())

    @jax.jit
    def forward(variables: Any, images: jax.Array) -> jax.Array:
        output: Any = model.apply(variables, images)
        return output.depth

    def forward_pytorch() -> torch.Tensor:
        with torch.inference_mode():
            return network(theirs)

    compile_seconds = timed(lambda: jax.block_until_ready(estimator(variables, image)))
    check_agreement(estimator(variables, image), *gradient_uncertainty(network, theirs))
    rows = {
        "forward, grumo_jax": lambda: forward(variables, image).block_until_ready(),
        "forward, PyTorch": forward_pytorch,
        "depth + Grad, grumo_jax": lambda: jax.block_until_ready(estimator(variables, image)),
        "depth + Grad, PyTorch": lambda: gradient_uncertainty(network, theirs),
    }
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for call in rows.values():
        call()
    for _ in range(options.rounds):
        for name, call in rows.items():
            seconds[name].append(timed(call))
    report(options, seconds, compile_seconds)


def check_agreement(estimate: Any, depth: torch.Tensor, uncertainty: torch.Tensor) -> None:
    """Fail unless both programs computed the same."""
    np.testing.assert_allclose(estimate.depth[0], depth[0, 0], rtol=1e-3)
    np.testing.assert_allclose(estimate.uncertainty[0], uncertainty[0, 0], atol=1e-2)


def report(options: Any, seconds: dict[str, list[float]], compile_seconds: float) -> None:
    """Print medians and spreads, and the two ratios."""
    median = {name: statistics.median(values) for name, values in seconds.items()}
    print(
        f"{platform.processor() or platform.machine()}, one core; jax {jax.__version__}, torch "
        f"{torch.__version__}; {options.size[0]}×{options.size[1]}, {options.rounds} rounds"
    )
    print(f"{'':<26}{'median ms':>10}{'fastest':>10}{'slowest':>10}")
    for name, values in seconds.items():
        times = (median[name], min(values), max(values))
        print(f"{name:<26}" + "".join(f"{1000 * t:10.1f}" for t in times))
    for what in ("forward", "depth + Grad"):
        ratio = median[f"{what}, PyTorch"] / median[f"{what}, grumo_jax"]
        print(f"{what}: {ratio:.2f}× as fast as PyTorch")
    print(f"first call, with compilation: {compile_seconds:.1f} s")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"seconds": seconds, "compile_seconds": compile_seconds}, file)


if __name__ == "__main__":
    main()
