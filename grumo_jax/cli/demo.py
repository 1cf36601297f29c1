"""`grumo demo`: from photos to pictures, with a network that comes along."""

from pathlib import Path
from typing import Annotated

import typer

DEMO_CHECKPOINT = "synthetic"


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("demo"),
    checkpoint: Annotated[
        Path | None, typer.Option(help="Another checkpoint than the one that comes along.")
    ] = None,
) -> None:
    """Run the shipped network on the shipped photos and draw the results.

    The network is small and was trained on synthetic scenes only: it shows how everything
    works, not how well a good depth network does.
    """
    from grumo_jax.cli.formats import Format
    from grumo_jax.cli.output import write_prediction
    from grumo_jax.cli.predict import make_predictor
    from grumo_jax.images import find_images, read_image

    folder = Path(__file__).parents[1] / "photos"
    predictor = make_predictor(checkpoint or shipped_checkpoint(DEMO_CHECKPOINT), "grad", None, 1)
    network = predictor.estimator.network
    print("photo     most uncertain at (row, column)   depth there   median depth")
    for name, file in find_images([folder]).items():
        photo = read_image(file)
        prediction = predictor(photo)
        formats = (Format.npz, Format.panel)
        pictures = write_prediction(out, name, photo, prediction, formats, network.predicts)


def shipped_checkpoint(name: str) -> Path:
    """Where a checkpoint that comes with the library lies: in the package, or in a clone."""
    package = Path(__file__).parents[1]
    for folder in (package / "checkpoints", package.parent / "checkpoints"):
        if (folder / name).is_dir():
            return folder / name
    raise FileNotFoundError(name)
