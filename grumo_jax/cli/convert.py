"""`grumo convert`: PyTorch weights to a checkpoint."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import jax
import typer

from grumo_jax.cli.messages import say
from grumo_jax.networks.checkpoint import save_checkpoint
from grumo_jax.networks.porting import port_torch_files


class Output(StrEnum):
    """What the network predicts."""

    disparity = "disparity"
    depth = "depth"


def convert(
    weights: Annotated[
        Path, typer.Argument(help="Directory with encoder.pth and depth.pth, or encoder.pth.")
    ],
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint directory to create.")],
    decoder: Annotated[
        Path | None, typer.Option(help="depth.pth, where WEIGHTS is encoder.pth.")
    ] = None,
    output: Annotated[
        Output,
        typer.Option(help="disparity: self-supervised (sigmoid). depth: supervised, in metres."),
    ] = Output.disparity,
    dropout_rate: Annotated[
        float, typer.Option(min=0, max=0.99, help="Dropout the network was trained with.")
    ] = 0.0,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing checkpoint.")] = False,
) -> None:
    """Turn Monodepth2-style PyTorch weights into a checkpoint.

    The files are read as weights only: a file that carries code is refused. Needs PyTorch:
    pip install 'grumo-jax[convert]'.

    Example: grumo convert mono_640x192/ checkpoints/mono_640x192
    """

    model, variables = port_torch_files(
        weights, decoder, output=output.value, dropout_rate=dropout_rate
    )
    save_checkpoint(checkpoint, model, variables, overwrite=overwrite)
    count = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    size = "any input size" if model.input_size is None else "{}×{}".format(*model.input_size)
    say(
        f"ResNet-{model.num_layers}, {output.value}"
        f"{' and uncertainty' * model.predict_uncertainty}, {size}, {count / 1e6:.1f} M parameters"
    )
    say(f"saved to {checkpoint}")
