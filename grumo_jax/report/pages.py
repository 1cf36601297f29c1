"""Figures of one photo: image, depth, error and uncertainty."""

from collections.abc import Mapping

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.ndimage import maximum_filter

from grumo_jax.networks.network import Quantity
from grumo_jax.plots import (
    Drawn,
    as_written,
    cell_shape,
    plot_depth,
    plot_image,
    plot_uncertainty,
    thin_out,
)

PICTURES = "pictures"
"""Folder beside a results file with <index, six digits>.png of some images."""
SPARSE = 0.25
"""Errors are drawn as dots if a smaller share of pixels is known."""


def plot_case(
    image: np.ndarray,
    depth: np.ndarray,
    error: np.ndarray,
    uncertainties: Mapping[str, np.ndarray],
    *,
    mask: np.ndarray | None = None,
    predicts: Quantity = "depth",
    measure: str = "error",
    title: str | None = None,
) -> Figure:
    """Draw image | depth | error | uncertainty … of one photo.

    Args:
        image: photo (H, W, 3), uint8 or float in [0, 1].
        depth: (H, W), predicted.
        error: (H, W); NaN where the truth is unknown.
        uncertainties: {name: (H, W)}, one panel each.
        mask: (H, W) bool, where the truth is known; by default where the error is finite.
        predicts: see `grumo_jax.plots.plot_depth`.
        measure: name of the error.
        title: a line above.
    """
    height, width = depth.shape
    panels = 3 + len(uncertainties)
    # Wide pictures, such as KITTI's, are no taller than a third of the page in three columns.
    columns = min(panels, (2 if panels <= 4 else 3) if width > 2 * height else 4)
    rows, inches = -(-panels // columns), 13 / columns
    figure = Figure(
        figsize=(13, rows * (inches * cell_shape(height, width) + 0.35) + 0.35 * bool(title)),
        layout="constrained",
    )
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    image, depth, error = map(thin_out, (image, depth, error))
    mask = None if mask is None else thin_out(mask)
    plot_image(image, axes=axes[0])
    plot_depth(depth, predicts=predicts, axes=axes[1])
    plot_error(image, error, mask, title=measure, axes=axes[2])
    for cell, (name, uncertainty) in zip(axes[3:], uncertainties.items(), strict=False):
        plot_uncertainty(thin_out(uncertainty), title=name, axes=cell)
    for cell in axes[panels:]:
        cell.set_axis_off()
    if title:
        figure.suptitle(title)
    as_written(figure)
    return figure


def plot_error(
    image: np.ndarray,
    error: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    title: str = "error",
    axes: Axes | None = None,
) -> Drawn:
    """Draw errors (H, W) in `hot` over the darkened photo, as dots where they are sparse.

    Args:
        image: photo (H, W, 3), uint8 or float in [0, 1].
        error: (H, W); NaN where the truth is unknown.
        mask: (H, W) bool, where it is known; by default where the error is finite.
        title: the upper end of the colours, the 98th percentile, is added to it.
        axes: where to draw; a new figure by default.
    """
    known = np.isfinite(error) if mask is None else mask & np.isfinite(error)
    high = float(np.percentile(error[known], 98)) if known.any() else 0.0
    title = f"{title}, brightest from {high:.3g}" if known.any() else f"{title}: no ground truth"
    return plot_image(error_over_photo(image, error, known), title=title, axes=axes)


def error_over_photo(image: np.ndarray, error: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Paint known errors (H, W) over a photo (H, W, 3): float RGB (H, W, 3) in [0, 1].

    LiDAR measures some 4 % of the pixels: so few are drawn as dots wide enough to see, the largest
    error on top.
    """
    photo = image / 255 if image.dtype == np.uint8 else image
    gray = 0.35 * np.repeat(np.mean(photo, axis=-1, keepdims=True), 3, axis=-1)
    if not known.any():
        return gray
    values = np.where(known, error, -np.inf)
    if np.mean(known) < SPARSE:
        values = _dilate(values, max(1, round(error.shape[1] / 450)))
    high = max(float(np.percentile(error[known], 98)), 1e-12)
    scaled = np.clip(np.where(np.isfinite(values), values, 0) / high, 0, 1)
    # `hot` starts at black, which would look like the photo.
    colors = colormaps["hot"](0.2 + 0.75 * scaled)[..., :3]
    return np.where(np.isfinite(values)[..., None], colors, gray)


def _dilate(values: np.ndarray, radius: int) -> np.ndarray:
    """Maximum over a disc around each pixel."""
    down, right = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    disc = down**2 + right**2 <= radius**2 + 1
    return maximum_filter(values, footprint=disc, mode="constant", cval=-np.inf)
