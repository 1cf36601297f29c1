"""`grumo layers`: the layers of a network."""

from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import typer

from grumo_jax.activations import list_calls
from grumo_jax.cli.messages import say
from grumo_jax.networks.checkpoint import load_checkpoint


def layers(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint directory.")],
    all_layers: Annotated[
        bool, typer.Option("--all", help="All layers, not only the decoder's convolutions.")
    ] = False,
) -> None:
    """List the layers of a network with their shapes, for `grumo predict --layer`.

    Without --all: the decoder's convolutions, coarse to fine. Their numbers, which are the papers',
    stand for them, too.

    Example: grumo layers checkpoints/synthetic
    """

    model, variables = load_checkpoint(checkpoint)
    size = model.input_size or (192, 640)
    images = jax.ShapeDtypeStruct((1, *size, 3), jnp.float32)
    found = list_calls(model, variables, images)
    calls = {call.name: call for call in found if not call.is_input}
    numbers = {name: str(i) for i, name in enumerate(model.decoder_layers)}
    say(f"{'#':>2} {'layer':<36} {'kind':<14} output for an image of {size[0]}×{size[1]}")
    for name in calls if all_layers else model.decoder_layers:
        shapes = jax.tree.leaves(calls[name].shape)
        form = ", ".join("×".join(map(str, s.shape[1:])) + f" {s.dtype}" for s in shapes)
        say(f"{numbers.get(name, ''):>2} {name:<36} {calls[name].kind.__name__:<14} {form}")
