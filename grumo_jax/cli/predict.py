"""`grumo predict`: depth and uncertainty of photos."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import typer
from tqdm import tqdm

from grumo_jax.cli.messages import complain, say
from grumo_jax.cli.options import check_out
from grumo_jax.cli.output import ODD_NAMES, Format, check_apart, write_prediction
from grumo_jax.errors import GrumoError, ImageError
from grumo_jax.estimators import GradientUncertainty, named_estimator
from grumo_jax.images import find_images, read_image
from grumo_jax.networks.checkpoint import load_checkpoint
from grumo_jax.predictor import Prediction, Predictor, say_not_finite

DEFAULT_FORMATS = [Format.npz, Format.panel]


def predict(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint directory, see `grumo convert`.")],
    images: Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("predictions"),
    estimator: Annotated[
        str,
        typer.Option(
            help="grad: the papers' recipe, some two forward passes. grad-averaged: log depth, the "
            "mean over layers and references, five to seven passes; better on some data, worse on "
            "others (docs/results.md). Others: grad-variance, grad-uncertainty, post, var, "
            "in-drop, drop, learned."
        ),
    ] = "grad",
    formats: Annotated[
        list[Format],
        typer.Option(
            "--format",
            help="npz: depth, uncertainty and raw score. npy: depth and uncertainty. png: 16-bit, "
            "depth·256 and uncertainty·65535 (post's, which is not normalised, divided by its "
            "largest value). panel: a picture. May be given several times.",
        ),
    ] = DEFAULT_FORMATS,
    layer: Annotated[
        list[str] | None,
        typer.Option(
            help="grad only: layer to read, by name or number, see `grumo layers`; may be repeated."
        ),
    ] = None,
    size: Annotated[
        tuple[int, int] | None,
        typer.Option(
            help="Height and width that photos are resized to for the network; by default what "
            "it was trained at."
        ),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Photos per batch; on CPUs 1 is fastest.")
    ] = 1,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="Seed of what estimators draw.")
    ] = 0,
) -> None:
    """Estimate depth and uncertainty of photos of any size.

    Photos that cannot be read, or for which there is no depth or uncertainty, are reported and
    skipped; the exit status is then 1.

    Example: grumo predict checkpoints/synthetic holiday/ --out results --format png
    """
    check_out(out)
    predictor = make_predictor(checkpoint, estimator, layer, size, batch_size)
    files = find_images(images, leave_out=out)
    check_apart(out, files)
    names, failed = list(files), list[str]()
    with tqdm(total=len(names), unit="photo", disable=not sys.stderr.isatty()) as progress:
        for start in range(0, len(names), batch_size):
            chunk = names[start : start + batch_size]
            photos = _read_all({name: files[name] for name in chunk}, failed)
            results = predictor.predict(photos.values(), jax.random.key(seed))
            for (name, photo), prediction in zip(photos.items(), results, strict=True):
                if problem := _find_problem(str(files[name]), prediction, estimator):
                    failed.append(problem)
                    continue
                predicts = predictor.estimator.network.predicts
                try:
                    write_prediction(out, name, photo, prediction, formats, predicts)
                except OSError as error:
                    if error.errno not in ODD_NAMES:
                        raise
                    failed.append(f"{files[name]}: no results can have its name: {error.strerror}")
            progress.update(len(chunk))
    for problem in failed:
        complain(f"skipped {problem}")
    say(f"{len(names) - len(failed)} of {len(names)} photos done; results are in {out}")
    if failed:
        raise typer.Exit(1)


def make_predictor(
    checkpoint: Path,
    estimator: str,
    layers: Sequence[str] | None = None,
    size: tuple[int, int] | None = None,
    batch_size: int = 1,
) -> Predictor:
    """Load a checkpoint and make a predictor with the named estimator."""
    model, variables = load_checkpoint(checkpoint)
    chosen = named_estimator(estimator, model)
    if layers:
        if not isinstance(chosen, GradientUncertainty):
            raise GrumoError(f"--layer is for grad estimators; the estimator is {estimator}")
        chosen = dataclasses.replace(chosen, layers=tuple(layers))
    return Predictor(chosen, variables, size, batch_size)


def _find_problem(photo: str, prediction: Prediction, estimator: str) -> str | None:
    """Why nothing can be written for a photo, or None."""
    depth, uncertainty = prediction.depth, prediction.uncertainty
    if not (np.isfinite(depth).any() and np.isfinite(uncertainty).any()):
        return say_not_finite(photo, [estimator])
    if not (depth > 0).any():
        return (
            f"{photo}: the predicted depth is nowhere more than 0; is it depth, and not its "
            "logarithm?"
        )
    return None


def _read_all(files: dict[str, Path], failed: list[str]) -> dict[str, np.ndarray]:
    """Read all readable photos, and add an error for each other one to `failed`."""
    photos = {}
    for name, file in files.items():
        try:
            photos[name] = read_image(file)
        except ImageError as error:
            failed.append(str(error))
    return photos
