"""`grumo predict`: depth and uncertainty of photos."""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from grumo_jax.cli.formats import Format

if TYPE_CHECKING:
    import numpy as np

    from grumo_jax.predictor import Predictor


def predict(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint directory, see `grumo convert`.")],
    images: Annotated[list[Path], typer.Argument(help="Photos, or folders of photos.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("predictions"),
    estimator: Annotated[
        str,
        typer.Option(help="grad, grad-averaged, post, var, in-drop, drop or learned."),
    ] = "grad",
    formats: Annotated[
        list[Format],
        typer.Option(
            "--format",
            help="npz: depth, uncertainty and raw score. npy: depth and uncertainty. png: 16-bit, "
            "depth·256 and uncertainty·65535. panel: a picture. May be given several times.",
        ),
    ] = [Format.npz, Format.panel],  # noqa: B006
    layer: Annotated[
        list[str] | None,
        typer.Option(help="grad only: layer to read, see `grumo layers`; may be repeated."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Photos per batch.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of what estimators draw.")] = 0,
) -> None:
    """Estimate depth and uncertainty of photos of any size.

    Unreadable photos are reported and skipped; the exit status is then 1.

    Example: grumo predict checkpoints/synthetic holiday/ --out results --format png
    """
    import jax
    from tqdm import tqdm

    from grumo_jax.cli.output import write_prediction
    from grumo_jax.images import find_images

    predictor = make_predictor(checkpoint, estimator, layer, batch_size)
    files = find_images(images)
    names, failed = list(files), list[str]()
    key = jax.random.key(seed)
    with tqdm(total=len(names), unit="photo", disable=not sys.stderr.isatty()) as progress:
        for start in range(0, len(names), batch_size):
            chunk = names[start : start + batch_size]
            photos = _read_all({name: files[name] for name in chunk}, failed)
            results = predictor.predict(list(photos.values()), key)
            for (name, photo), prediction in zip(photos.items(), results, strict=True):
                predicts = predictor.estimator.network.predicts
                write_prediction(out, name, photo, prediction, formats, predicts)
            progress.update(len(chunk))
    for problem in failed:
        print(f"grumo: skipped {problem}", file=sys.stderr)
    print(f"{len(names) - len(failed)} of {len(names)} photos done; results are in {out}")
    if failed:
        raise typer.Exit(1)


def make_predictor(
    checkpoint: Path, estimator: str, layers: Sequence[str] | None, batch_size: int
) -> "Predictor":
    """Load a checkpoint and put the estimator of that name on it."""
    from grumo_jax.checkpoint import load_checkpoint
    from grumo_jax.errors import GrumoError
    from grumo_jax.estimators import GradientUncertainty, named_estimator
    from grumo_jax.predictor import Predictor

    model, variables = load_checkpoint(checkpoint)
    chosen = named_estimator(estimator, model)
    if layers:
        if not isinstance(chosen, GradientUncertainty):
            raise GrumoError(f"--layer is for grad and grad-averaged; the estimator is {estimator}")
        chosen = dataclasses.replace(chosen, layers=tuple(layers))
    return Predictor(chosen, variables, batch_size=batch_size)


def _read_all(files: dict[str, Path], failed: list[str]) -> dict[str, "np.ndarray"]:
    """Read what can be read; note the rest."""
    from grumo_jax.errors import ImageError
    from grumo_jax.images import read_image

    photos = {}
    for name, file in files.items():
        try:
            photos[name] = read_image(file)
        except ImageError as error:
            failed.append(str(error))
    return photos
