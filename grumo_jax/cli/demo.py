"""`grumo demo`: from photos to pictures, with a network that comes along."""

from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import typer

from grumo_jax.checkpoint import shipped_checkpoint
from grumo_jax.cli.output import Format, write_prediction
from grumo_jax.cli.predict import make_predictor
from grumo_jax.images import find_images, read_image, write_atomically
from grumo_jax.plots import plot_gallery

ESTIMATOR = "grad-averaged"
PHOTOS = Path(__file__).parents[1] / "photos"


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("demo"),
    checkpoint: Annotated[
        Path | None, typer.Option(help="Another checkpoint than the one that comes along.")
    ] = None,
) -> None:
    """Estimate depth and uncertainty of two real photos, and draw them.

    The network that comes along is small and has seen synthetic scenes only: it shows how
    everything works, not how well a good depth network does.
    """
    checkpoint = checkpoint or shipped_checkpoint("synthetic")
    predictor = make_predictor(checkpoint, ESTIMATOR)
    predicts = predictor.estimator.network.predicts
    print(f"network: {checkpoint}; estimator: {ESTIMATOR}; depth in metres of its training scenes")
    print(f"{'photo':<10}{'nearest':>10}{'median':>10}{'farthest':>10}   least certain pixel")
    gallery = []
    for name, file in find_images([PHOTOS]).items():
        photo = read_image(file)
        prediction = predictor(photo, jax.random.key(0))
        write_prediction(out, name, photo, prediction, [Format.npz, Format.png], predicts)
        gallery.append((photo, prediction.depth, prediction.uncertainty))
        depths = "".join(f"{d:10.2f}" for d in np.percentile(prediction.depth, (0, 50, 100)))
        worst = np.unravel_index(np.argmax(prediction.uncertainty), prediction.uncertainty.shape)
        print(f"{name:<10}{depths}   row {worst[0]}, column {worst[1]}")
    figure = plot_gallery(gallery, predicts=predicts)
    picture = out / "demo.png"
    write_atomically(picture, lambda stream: figure.savefig(stream, dpi=110, format="png"))
    print(f"picture: {picture.resolve()}")
