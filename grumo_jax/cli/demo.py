"""`grumo demo`: pictures of photos and of a synthetic drive, with a shipped network."""

from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import typer
from tqdm import tqdm

from grumo_jax._internal.atomic_writes import write_atomically
from grumo_jax.cli.messages import say, say_table
from grumo_jax.cli.options import check_out
from grumo_jax.cli.output import Format, write_prediction
from grumo_jax.cli.predict import make_predictor
from grumo_jax.errors import CheckpointError
from grumo_jax.images import find_images, read_image
from grumo_jax.networks.shipped import shipped_checkpoint
from grumo_jax.plots import plot_gallery
from grumo_jax.predictor import Predictor

ESTIMATOR = "grad"
"""The papers' recipe, the default of `grumo predict`."""
PHOTOS = Path(__file__).parents[1] / "photos"
FRAMES, SHOWN = 12, 4
"""Number of frames of the drive, and of those that are drawn."""


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the pictures.")] = Path("demo"),
    checkpoint: Annotated[
        Path | None, typer.Option(help="Another checkpoint than those that come along.")
    ] = None,
    scenes: Annotated[int, typer.Option(min=1, help="Held-out scenes of the table.")] = 12,
) -> None:
    """Estimate depth and uncertainty of real photos and of a synthetic drive, and draw them.

    Then compare the estimators on scenes that no network was trained on. The networks that come
    along are small and have seen synthetic scenes only: they show how everything works, not how
    well a good depth network does.
    """
    check_out(out)
    demo_photos(checkpoint or shipped_checkpoint("synthetic"), out)
    demo_drive(checkpoint or _network_of_the_drive(), out, scenes)


def _network_of_the_drive() -> Path:
    """The better network in a clone; an installed package has only the default one."""
    try:
        return shipped_checkpoint("synthetic-depth")
    except CheckpointError:
        return shipped_checkpoint("synthetic")


def demo_photos(checkpoint: Path, out: Path) -> None:
    """Draw the shipped photos."""
    predictor = make_predictor(checkpoint, ESTIMATOR)
    predicts = predictor.estimator.network.predicts
    say(f"network: {checkpoint}; estimator: {ESTIMATOR}; depth in metres of its training scenes")
    say(f"{'photo':<10}{'nearest':>10}{'median':>10}{'farthest':>10}   least certain pixel")
    gallery = []
    for name, file in find_images([PHOTOS]).items():
        photo = read_image(file)
        prediction = predictor(photo, jax.random.key(0))
        write_prediction(out, name, photo, prediction, [Format.npz, Format.png], predicts)
        gallery.append((photo, prediction.depth, prediction.uncertainty))
        depths = "".join(f"{d:10.2f}" for d in np.percentile(prediction.depth, (0, 50, 100)))
        worst = np.unravel_index(np.argmax(prediction.uncertainty), prediction.uncertainty.shape)
        say(f"{name:<10}{depths}   row {worst[0]}, column {worst[1]}")
    _save(plot_gallery(gallery, predicts=predicts), out / "demo.png")


def demo_drive(checkpoint: Path, out: Path, number: int) -> None:
    """Draw a drive, and print how well each estimator ranks errors on held-out scenes."""
    # A slow import, which other commands do not need.
    from grumo_jax.cli import showcase

    predictor: Predictor = make_predictor(checkpoint, ESTIMATOR)
    network = predictor.estimator.network
    say(f"network: {checkpoint}; a drive through a street that it has not seen")
    film = showcase.drive(predictor, FRAMES)
    _save(showcase.draw_drive(film[:: FRAMES // SHOWN], network.predicts), out / "drive.png")
    moving = showcase.animate(film)
    write_atomically(out / "drive.gif", lambda stream: stream.write(moving))
    say(f"animation: {(out / 'drive.gif').resolve()}")
    with tqdm(total=number, desc="held-out scenes", unit="scene", disable=None) as bar:
        table = showcase.score(network.module, predictor.variables, number, bar.update)
    say_table(table.to_markdown().strip())


def _save(figure: Any, path: Path) -> None:
    write_atomically(path, lambda stream: figure.savefig(stream, dpi=110, format="png"))
    say(f"picture: {path.resolve()}")
