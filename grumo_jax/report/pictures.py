"""Pictures of the best and worst images of an evaluation."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from grumo_jax._internal.atomic_writes import write_atomically
from grumo_jax._internal.hashing import hash_bytes
from grumo_jax.data import Sample
from grumo_jax.evaluation.evaluate import Run
from grumo_jax.evaluation.results import Results, Row
from grumo_jax.metrics.masked import or_no_depth
from grumo_jax.predictor import Prediction, to_photo_size
from grumo_jax.report.pages import PICTURES, plot_case


def draw_pictures(run: Run, results: Results, number: int, names: Sequence[str]) -> list[Path]:
    """Draw the best and the worst images: image, depth, error and uncertainties.

    Args:
        run: the evaluation.
        results: its results.
        number: of best and of worst images, by abs_rel and by its AUSE, of the first estimator.
        names: estimators whose uncertainty is drawn; the first one ranks the images.

    Returns:
        The files, named by the images' indices in the data set.
    """
    if not number:
        return []
    _forget_others(results)
    files = []
    for index, scale in telling_images(results.rows(), names[0], number).items():
        file = results.path.parent / PICTURES / f"{index:06d}.png"
        if not file.exists():
            _draw(run, index, scale, names, file)
        files.append(file)
    return files


def _forget_others(results: Results) -> None:
    """Delete pictures that another evaluation drew into the same folder."""
    folder = results.path.parent / PICTURES
    mark, name = folder / "of.sha256", json.dumps(results.configuration, sort_keys=True)
    digest = hash_bytes(name.encode())
    if not mark.is_file() or mark.read_bytes() != digest.encode():
        for file in folder.glob("*.png"):
            file.unlink()
        write_atomically(mark, lambda stream: stream.write(digest.encode()))


def telling_images(rows: Iterable[Row], estimator: str, number: int) -> dict[int, float]:
    """The images of lowest and highest abs_rel, and lowest and highest AUSE of it.

    Returns:
        {index in the data set: factor that depth was multiplied by}.
    """
    entries = {
        row["index"]: {k: row["estimators"][estimator][k] for k in ("errors", "ause", "scale")}
        for row in rows
        if "estimators" in row and row["estimators"][estimator]["pixels"]
    }
    chosen: dict[int, None] = {}
    for group in ("errors", "ause"):
        ordered = sorted(entries, key=lambda index: entries[index][group]["abs_rel"])
        chosen |= dict.fromkeys(ordered[:number] + ordered[max(len(ordered) - number, 0) :])
    return {index: entries[index]["scale"] for index in chosen}


def _draw(run: Run, index: int, scale: float, names: Sequence[str], file: Path) -> None:
    protocol = run.batches.protocol
    sample = protocol.trim(run.batches.source[index])
    predictions = _predict(run, sample, names)
    depth = predictions[names[0]].depth * scale
    figure = plot_case(
        sample.image,
        depth,
        _relative_error(
            sample,
            np.clip(
                np.asarray(or_no_depth(jnp.asarray(depth))), protocol.min_depth, protocol.max_depth
            ),
        ),
        {name: predictions[name].uncertainty for name in names},
        predicts=run.network.predicts,
        measure="relative error",
        title=sample.id,
    )
    write_atomically(file, lambda stream: figure.savefig(stream, dpi=100, format="png"))


def _predict(run: Run, sample: Sample, names: Sequence[str]) -> dict[str, Prediction]:
    """{estimator: maps at the photo's size}."""
    estimates, size = run.estimate([run.batches.prepare(sample)]), sample.image.shape[:2]
    return {name: to_photo_size(run.network, estimates[name], 0, size) for name in names}


def _relative_error(sample: Sample, depth: np.ndarray) -> np.ndarray:
    """|gt − pred| / gt, NaN where there is no ground truth."""
    truth = np.zeros(depth.shape, np.float32) if sample.depth is None else sample.depth
    known = truth > 0
    return np.where(known, np.abs(truth - depth) / np.where(known, truth, 1), np.nan)
