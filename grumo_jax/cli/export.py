"""`grumo export`: an estimator as a file that runs without the model's code."""

from pathlib import Path
from typing import Annotated

import typer

from grumo_jax.cli.messages import say
from grumo_jax.cli.predict import make_predictor
from grumo_jax.errors import GrumoError


def export(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint directory.")],
    file: Annotated[Path, typer.Argument(help="The file to write, such as grad.jaxexport.")],
    estimator: Annotated[str, typer.Option(help="As in `grumo predict`.")] = "grad",
    size: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Height and width of the images; by default those it was trained at."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images it takes at a time.")] = 1,
    platform: Annotated[
        list[str] | None, typer.Option(help="cpu, cuda, rocm, tpu; all by default.")
    ] = None,
) -> None:
    """Write network, weights and estimator into one file, for images of one size.

    A serving process needs JAX alone: `jax.export.deserialize(…).call(images, jnp.uint32(seed))`
    gives depth, uncertainty and the raw score.

    Example: grumo export checkpoints/synthetic-mono grad.jaxexport
    """
    from grumo_jax.export import PLATFORMS, export_estimator

    if file.is_dir():
        raise GrumoError(f"{file}: a folder; name the file to write")
    predictor = make_predictor(checkpoint, estimator)
    height_width = size or predictor.estimator.model.input_size
    if height_width is None:
        raise GrumoError(f"{checkpoint} names no input size; give --size HEIGHT WIDTH")
    export_estimator(
        file,
        predictor.estimator,
        predictor.variables,
        (batch_size, *height_width),
        platforms=platform or PLATFORMS,
    )
    height, width = height_width
    megabytes = file.stat().st_size / 1e6
    say(f"{file}: images ({batch_size}, {height}, {width}, 3), {megabytes:.1f} MB")
