"""The command line: one module for each command."""

import os
import sys
import traceback
from typing import Annotated

import typer

from grumo_jax._internal.atomic_writes import noticing_disk_problems
from grumo_jax._internal.hosts import leave
from grumo_jax.cli.ablate import ablate
from grumo_jax.cli.compiled import keep_compiled
from grumo_jax.cli.convert import convert
from grumo_jax.cli.demo import demo
from grumo_jax.cli.evaluate import evaluate
from grumo_jax.cli.export import export
from grumo_jax.cli.generate import generate
from grumo_jax.cli.interrupts import ending_on_signals
from grumo_jax.cli.layers import layers
from grumo_jax.cli.memory import keep_memory
from grumo_jax.cli.messages import complain, one_sentence, warnings_as_sentences
from grumo_jax.cli.predict import predict
from grumo_jax.cli.prepare import prepare
from grumo_jax.cli.report import report
from grumo_jax.cli.train import train
from grumo_jax.errors import GrumoError, printable
from grumo_jax.version import __version__

app = typer.Typer(
    name="grumo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help=(
        "Where is a depth network wrong? Gradient-based uncertainty for monocular depth.\n\n"
        "Start with `grumo demo`. Then turn PyTorch weights into a checkpoint with `grumo "
        "convert`, and run it on your photos with `grumo predict`."
    ),
)


def say_version(asked: bool) -> None:
    """Print the version and exit if asked for it."""
    if asked:
        print(f"grumo {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=say_version, help="Show the version and exit."
        ),
    ] = False,
) -> None:
    """What `grumo` itself is told, before any command."""


COMMANDS = (
    demo,
    predict,
    convert,
    layers,
    generate,
    prepare,
    train,
    evaluate,
    ablate,
    report,
    export,
)
for command in COMMANDS:
    app.command()(command)


def main() -> None:
    """Run the command line: one sentence and status 2 for a user's mistake, no traceback."""
    try:
        with (
            ending_on_signals(),
            noticing_disk_problems("output", GrumoError),
            warnings_as_sentences(),
        ):
            keep_memory()
            keep_compiled()
            _run()
    except (GrumoError, OSError) as error:
        complain(one_sentence(error))
        leave(2)
    except Exception:
        for line in traceback.format_exc().splitlines():
            print(printable(line), file=sys.stderr)
        leave(1)


def _run() -> None:
    try:
        app()
    finally:
        try:
            sys.stdout.flush()
        except OSError:
            # Python would flush it once more at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise
