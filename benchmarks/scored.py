"""AUSE of an estimate at the points of a laser scan: this library's, and two in PyTorch.

Plain: maps resized to the size of the scan's picture, then percentile by percentile, as the papers'
programs do. Optimised: maps read at the points alone, sorted once for each order.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import torch
from sparsification_vs_numpy import ORDERS, loop
from torch.nn import functional as F

import grumo_jax
from grumo_jax.data import Sample
from grumo_jax.evaluation import PROTOCOLS, Protocol
from grumo_jax.evaluation.measure import measure_uncertainty
from grumo_jax.evaluation.targets import Prepare, Targets, batch_targets
from grumo_jax.networks.network import DepthNetwork

FULL, POINTS = (375, 1242), 18_000
KEPT = np.array([POINTS - np.ceil((POINTS - 1) * p / 100) for p in range(0, 100, 2)], int)
"""How many points are kept where 0, 2, …, 98 % are removed."""
Maps = Sequence[torch.Tensor]


def scan(batch: int) -> np.ndarray:
    """Ground truth (B, H, W) that is known at some points."""
    rng = np.random.default_rng(0)
    truth = np.zeros((batch, *FULL), np.float32)
    for picture in truth:
        places = rng.choice(picture.size, POINTS, replace=False)
        picture.flat[places] = rng.uniform(2, 60, POINTS)
    return truth


def protocol() -> Protocol:
    """KITTI's, with median scaling and no crop."""
    return PROTOCOLS["kitti-mono"].for_source(None)


def targets_of(truth: np.ndarray, size: tuple[int, int]) -> Targets:
    """The ground truth as this library evaluates it."""
    picture = np.zeros((*FULL, 3), np.uint8)
    prepare = Prepare(protocol(), size)
    prepared = [prepare(Sample("scan", picture, depth)) for depth in truth]
    return batch_targets(prepared, protocol(), size)


def score(network: DepthNetwork, estimate: grumo_jax.Estimate, targets: Targets) -> Any:
    """AUSE of each metric, of an estimate of this library: {metric: (B,)}."""
    maps = estimate.depth, targets, protocol(), estimate.uncertainty
    found, _ = measure_uncertainty(network, *maps)
    return {metric: np.asarray(area) for metric, area in found.ause.items()}


def score_plain(maps: Maps, truth: np.ndarray) -> dict[str, np.ndarray]:
    """The same of PyTorch's depth and uncertainty (B, 1, h, w), by the papers' loop."""
    resized = [F.interpolate(m, FULL, mode="bilinear")[:, 0] for m in _as_disparity(maps)]
    full = [m.cpu().numpy() for m in resized]
    scores = []
    for disparity, uncertainty, depth in zip(*full, truth, strict=True):
        known = depth > 0
        points = _in_metres(1 / disparity[known], depth[known])
        scores.append(loop(depth[known], points, uncertainty[known]))
    return {metric: np.array([s[metric] for s in scores]) for metric in ORDERS}


def points_of(truth: np.ndarray, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the points are, as `grid_sample` takes it, and their depth (B, N)."""
    rows, columns = (np.stack(places) for places in zip(*map(np.nonzero, truth), strict=True))
    depth = np.stack([t[t > 0] for t in truth])
    places = [(2 * c + 1) / n - 1 for c, n in ((columns, FULL[1]), (rows, FULL[0]))]
    grid = torch.from_numpy(np.stack(places, -1).astype(np.float32))[:, None]
    return grid.to(device), torch.from_numpy(depth).to(device)


def score_optimised(maps: Maps, points: tuple[torch.Tensor, torch.Tensor]) -> dict[str, np.ndarray]:
    """The same, read at the points and sorted once."""
    grid, truth = points
    options: Any = {"padding_mode": "border", "align_corners": False}
    disparity, uncertainty = (
        F.grid_sample(m, grid, **options)[:, 0, 0] for m in _as_disparity(maps)
    )
    ratio = truth.quantile(0.5, 1, keepdim=True) / (1 / disparity).quantile(0.5, 1, keepdim=True)
    depth = (ratio / disparity).clamp(1e-3, 80)
    return {metric: _area(metric, truth, depth, uncertainty).cpu().numpy() for metric in ORDERS}


@cache
def _kept(device: torch.device) -> torch.Tensor:
    return torch.from_numpy(KEPT).to(device)


def _as_disparity(maps: Maps) -> list[torch.Tensor]:
    return [(1 / maps[0]).contiguous(), maps[1].contiguous()]


def _in_metres(depth: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.clip(depth * np.median(truth) / np.median(depth), 1e-3, 80)


def _area(
    metric: str, truth: torch.Tensor, depth: torch.Tensor, uncertainty: torch.Tensor
) -> torch.Tensor:
    """The area between the curve by uncertainty and the curve by error: (B,)."""
    ratio = torch.maximum(truth / depth, depth / truth)
    error, order = {
        "abs_rel": lambda: ((truth - depth).abs() / truth,) * 2,
        "rmse": lambda: ((truth - depth) ** 2,) * 2,
        "a1": lambda: ((ratio >= 1.25).float(), ratio),
    }[metric]()
    kept = _kept(depth.device)
    curves = []
    for by in (uncertainty, order):
        sums = error.gather(1, by.argsort(1)).double().cumsum(1)
        means = sums[:, kept - 1] / kept
        curves.append(F.pad(means.sqrt() if metric == "rmse" else means, (0, 1)))
    return torch.trapezoid(curves[0] - curves[1], dx=1 / len(KEPT))
