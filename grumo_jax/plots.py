"""Plots in the field's conventions. They change no global state and open no window.

Disparity is drawn in `magma` up to its 95th percentile, metric depth in `magma_r`, uncertainty
and error in `hot`. Functions draw on the given axes, or on a new figure.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.text import Text

from grumo_jax.errors import printable
from grumo_jax.networks.network import Quantity

Drawn = tuple[Figure | SubFigure, Axes]
MOST_DRAWN = 2000
"""Largest number of pixels drawn along a picture's longer side; panels have fewer."""
_FLATTEST, _TALLEST = 0.1, 3.0


def cell_shape(height: int, width: int) -> float:
    """Aspect ratio (height over width) of a picture's cell: the picture's, within bounds.

    >>> cell_shape(375, 1242) == 375 / 1242, cell_shape(5000, 1), cell_shape(1, 5000)
    (True, 3.0, 0.1)
    """
    return float(np.clip(height / width, _FLATTEST, _TALLEST))


def thin_out(picture: np.ndarray) -> np.ndarray:
    """Take every second, third, … pixel of a picture (H, W, …) larger than `MOST_DRAWN`.

    >>> thin_out(np.zeros((20_000, 1080, 3))).shape
    (2000, 108, 3)
    """
    step = -(-max(picture.shape[:2]) // MOST_DRAWN)
    return picture[::step, ::step]


def as_written(figure: Figure | SubFigure) -> None:
    """Draw all text of a figure literally: names come from files, and $ starts no formula."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
        text.set_text("\n".join(map(printable, text.get_text().split("\n"))))


def plot_image(image: np.ndarray, *, title: str = "image", axes: Axes | None = None) -> Drawn:
    """Draw a photo (H, W, 3), uint8 or float in [0, 1]."""
    return _draw(image, axes, title)


def plot_depth(
    depth: np.ndarray,
    *,
    predicts: Quantity = "depth",
    title: str | None = None,
    axes: Axes | None = None,
    bar: bool = False,
) -> Drawn:
    """Draw depth (H, W): metric in `magma_r`, or as disparity in `magma`.

    Args:
        depth: positive depths.
        predicts: "disparity" draws 1 / depth, as is usual for disparity networks.
        title: "depth" or "disparity" by default.
        axes: axes to draw on; a new figure's by default.
        bar: whether to draw a colour bar.
    """
    if predicts == "disparity":
        disparity = 1 / np.maximum(depth, 1e-6)
        low, high = _limits(disparity, 0, 95)
        return _draw(disparity, axes, title or "disparity", bar, cmap="magma", vmin=low, vmax=high)
    low, high = _limits(depth, 2, 98)
    return _draw(depth, axes, title or "depth", bar, cmap="magma_r", vmin=low, vmax=high)


def plot_uncertainty(
    uncertainty: np.ndarray,
    *,
    title: str = "uncertainty",
    axes: Axes | None = None,
    bar: bool = False,
) -> Drawn:
    """Draw uncertainty (H, W) in `hot`; the highest 2 % share a colour, and NaN is transparent."""
    low, high = _limits(uncertainty, 0, 98)
    return _draw(uncertainty, axes, title, bar, cmap="hot", vmin=low, vmax=high)


def plot_overlay(
    image: np.ndarray,
    uncertainty: np.ndarray,
    *,
    title: str = "overlay",
    axes: Axes | None = None,
) -> Drawn:
    """Draw uncertainty (H, W) in `hot` over the darkened photo (H, W, 3), opaque where high."""
    return _draw(overlay(image, uncertainty), axes, title)


def overlay(image: np.ndarray, uncertainty: np.ndarray) -> np.ndarray:
    """Blend uncertainty (H, W) over a photo (H, W, 3): float RGB (H, W, 3) in [0, 1].

    NaN is drawn like the highest uncertainty.
    """
    photo = image / 255 if image.dtype == np.uint8 else image
    low, high = _limits(uncertainty, 0, 98)
    known = np.where(np.isnan(uncertainty), high, uncertainty)
    scaled = np.clip((known - low) / max(high - low, 1e-12), 0, 1)
    gray = np.repeat(np.mean(photo, axis=-1, keepdims=True), 3, axis=-1)
    opacity = 0.85 * scaled[..., None]
    return (1 - opacity) * 0.7 * gray + opacity * colormaps["hot"](0.25 + 0.6 * scaled)[..., :3]


def _limits(values: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """Two percentiles of the finite values; 0 and 1 if there are none."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return 0.0, 1.0
    return float(np.percentile(finite, low)), float(np.percentile(finite, high))


def plot_panel(
    image: np.ndarray,
    depth: np.ndarray,
    uncertainty: np.ndarray,
    *,
    predicts: Quantity = "depth",
    title: str | None = None,
) -> Figure:
    """Draw image | depth | uncertainty | overlay of one photo.

    Args:
        image: photo (H, W, 3).
        depth, uncertainty: (H, W).
        predicts: see `plot_depth`.
        title: the figure's title.

    Returns:
        The figure: a row of four plots, or two by two for wide photos.
    """
    height, width = depth.shape
    rows, columns, inches = (2, 2, 6.4) if width > 2 * height else (1, 4, 3.6)
    shape = cell_shape(height, width)
    figure = Figure(
        figsize=(columns * inches, rows * (inches * shape + 0.35) + 0.35 * bool(title)),
        layout="constrained",
    )
    cells = figure.subplots(rows, columns).ravel()
    _fill_row(cells, image, depth, uncertainty, predicts, bars=True)
    if title:
        figure.suptitle(title)
    as_written(figure)
    return figure


def plot_gallery(
    photos: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], *, predicts: Quantity = "depth"
) -> Figure:
    """Draw image | depth | uncertainty | overlay of several photos, one per row.

    Args:
        photos: for each (image (H, W, 3), depth (H, W), uncertainty (H, W)).
        predicts: see `plot_depth`.
    """
    heights = [3.6 * cell_shape(*depth.shape) for _, depth, _ in photos]
    figure = Figure(figsize=(4 * 3.6, sum(heights) + 0.35), layout="constrained")
    axes = figure.subplots(len(photos), 4, squeeze=False, height_ratios=heights)
    for row, photo in zip(axes, photos, strict=True):
        _fill_row(row, *photo, predicts)
    for cell in axes[1:].ravel():
        cell.set_title("")
    return figure


def _fill_row(
    axes: Sequence[Axes],
    image: np.ndarray,
    depth: np.ndarray,
    uncertainty: np.ndarray,
    predicts: Quantity,
    bars: bool = False,
) -> None:
    image, depth, uncertainty = map(thin_out, (image, depth, uncertainty))
    plot_image(image, axes=axes[0])
    plot_depth(depth, predicts=predicts, axes=axes[1], bar=bars)
    plot_uncertainty(uncertainty, axes=axes[2], bar=bars)
    plot_overlay(image, uncertainty, axes=axes[3])


def _draw(
    values: np.ndarray, axes: Axes | None, title: str, bar: bool = False, **style: Any
) -> Drawn:
    if axes is None:
        axes = Figure(layout="constrained").subplots()
    drawn = axes.imshow(values, interpolation="nearest", **style)
    if bar:
        # Values beyond the limits share the last colour.
        axes.figure.colorbar(drawn, cax=axes.inset_axes((1.01, 0, 0.02, 1)), extend="max")
    axes.set_title(printable(title), parse_math=False)
    axes.set_axis_off()
    return axes.figure, axes
