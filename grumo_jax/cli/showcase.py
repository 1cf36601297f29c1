"""The synthetic half of the demo: a drive with moving objects, and a table of held-out scenes."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from grumo_jax.data.encoding import to_uint8
from grumo_jax.data.sample import REGIONS, Sample
from grumo_jax.estimators import named_estimator
from grumo_jax.evaluation.evaluate import Run
from grumo_jax.evaluation.measure import Measures
from grumo_jax.evaluation.protocol import PROTOCOLS
from grumo_jax.plots import overlay, plot_depth, plot_image, plot_uncertainty
from grumo_jax.predictor import Predictor
from grumo_jax.report.summary import FEWEST
from grumo_jax.report.table import Column, Table, Value
from grumo_jax.synthetic import Frame, shoot
from grumo_jax.synthetic.source import SIZES, SyntheticWorld, regions

DRIVE = 75
"""Index of the test clip whose camera drives on."""
STEP = 0.15
"""Seconds between frames of the drive."""
ESTIMATORS = ("grad", "grad-averaged", "post", "var", "in-drop", "learned")
BASELINES = ("depth", "row")
FARTHEST = 80.0


@dataclass(frozen=True)
class DriveFrame:
    """A frame of the drive, with its estimates.

    Attributes:
        image: uint8 (H, W, 3).
        depth: float32 (H, W), scaled by the medians, metres.
        uncertainty: float32 (H, W).
        error: float32 (H, W), |depth − truth| / truth; 0 where there is no truth.
        moving: bool (H, W).
    """

    image: np.ndarray
    depth: np.ndarray
    uncertainty: np.ndarray
    error: np.ndarray
    moving: np.ndarray


def drive(predictor: Predictor, number: int) -> list[DriveFrame]:
    """Film a street with moving objects, and estimate every frame."""
    take = SyntheticWorld("street/test").take(DRIVE)
    frames = (shoot(take, i * STEP, size=SIZES["street"]) for i in range(number))
    return [_estimate(predictor, frame) for frame in frames]


def _estimate(predictor: Predictor, frame: Frame) -> DriveFrame:
    image, truth = to_uint8(frame.image), np.asarray(frame.depth)
    prediction = predictor(image, jax.random.key(0))
    known = (truth > 0) & (truth < FARTHEST)
    depth = prediction.depth * np.median(truth[known]) / np.median(prediction.depth[known])
    error = np.where(known, np.abs(depth - truth) / np.where(known, truth, 1), 0)
    return DriveFrame(image, depth, prediction.uncertainty, error, np.asarray(frame.moving))


def draw_drive(scenes: Sequence[DriveFrame], predicts: Any) -> Figure:
    """Draw image | disparity | uncertainty | error of some frames, one a row.

    Moving objects are outlined in the image; errors are drawn up to 50 % of the depth.
    """
    height, width = scenes[0].depth.shape
    figure = Figure(
        figsize=(16, 4 * len(scenes) * height / width + 0.4 + 0.1 * len(scenes)),
        layout="constrained",
    )
    rows = figure.subplots(len(scenes), 4, squeeze=False)
    for row, scene in zip(rows, scenes, strict=True):
        plot_image(scene.image, title="image, moving objects outlined", axes=row[0])
        if scene.moving.any():
            row[0].contour(scene.moving, levels=[0.5], colors="cyan", linewidths=1)
        plot_depth(scene.depth, predicts=predicts, axes=row[1])
        plot_uncertainty(scene.uncertainty, axes=row[2])
        row[3].imshow(scene.error, cmap="hot", vmin=0, vmax=0.5)
        row[3].set_title("relative error")
        row[3].set_axis_off()
    for cell in rows[1:].ravel():
        cell.set_title("")
    return figure


def animate(scenes: Sequence[DriveFrame]) -> bytes:
    """A GIF of the drive: the photo, and its uncertainty over it."""
    frames = [
        Image.fromarray(np.concatenate([s.image, to_uint8(overlay(s.image, s.uncertainty))]))
        for s in scenes
    ]
    large = [frame.resize((2 * frame.width, 2 * frame.height)) for frame in frames]
    stream = io.BytesIO()
    duration = round(1000 * STEP)
    large[0].save(stream, "GIF", save_all=True, append_images=large[1:], duration=duration, loop=0)
    return stream.getvalue()


def score(
    model: Any, variables: Any, number: int, advance: Callable[[], object] = lambda: None
) -> Table:
    """AUSE and AURG of each estimator on held-out streets, over all pixels and within regions."""
    learned = model.as_depth_network().log_sigma is not None
    names = [n for n in (*ESTIMATORS, *BASELINES) if n != "learned" or learned]
    source = SyntheticWorld("street/test", number=number)
    run = Run.of(
        {name: named_estimator(name, model) for name in names},
        variables,
        source,
        PROTOCOLS["median"],
        batch_size=1,
        devices=jax.local_devices()[:1],
    )
    measured: list[dict[str, Measures]] = []
    for index in range(number):
        prepared = [run.batches.prepare(_film(source, index))]
        measured.append(jax.device_get(run.measure(run.estimate(prepared), prepared)))
        advance()
    rows: list[list[Value]] = [[name, *_means([m[name] for m in measured])] for name in names]
    columns = [Column("estimator"), Column("AUSE", "lower"), Column("AURG", "higher")]
    columns += [Column(f"AURG {region}", "higher") for region in REGIONS]
    abs_rel = np.mean([m[names[0]].errors.abs_rel for m in measured])
    title = f"abs_rel of {number} held-out streets: {abs_rel:.3f}; its AUSE and AURG"
    return Table(title, columns, rows)


def _film(source: SyntheticWorld, index: int) -> Sample:
    """A clip's frame, without the neighbours that only training needs."""
    frame = shoot(source.take(index), 0.0, size=source.size)
    image, depth = to_uint8(frame.image), np.asarray(frame.depth)
    return Sample(source.ids[index], image, depth, regions=regions(frame))


def _means(measured: Sequence[Measures]) -> list[float]:
    """AUSE and AURG over all pixels, and AURG within each region that is large enough."""
    everywhere = [m.sparsification for m in measured]
    values = [np.mean([s.ause["abs_rel"] for s in everywhere])]
    values += [np.mean([s.aurg["abs_rel"] for s in everywhere])]
    for region in REGIONS:
        parts = [m.regions[region][1] for m in measured]
        found = [s.aurg["abs_rel"] for s in parts if s.pixels >= FEWEST]
        values.append(np.mean(found) if found else np.float64("nan"))
    return [float(value) for value in values]
