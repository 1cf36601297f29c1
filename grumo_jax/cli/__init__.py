"""The command line. Each command is a module; heavy imports wait until a command runs."""

import sys

import typer

from grumo_jax.errors import GrumoError

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


def main() -> None:
    """Run the command line: one sentence and status 2 for a user's mistake, no traceback."""
    from grumo_jax.cli import convert, demo, layers, predict

    for command in (demo.demo, predict.predict, convert.convert, layers.layers):
        app.command()(command)
    try:
        app()
    except GrumoError as error:
        print(f"grumo: {error}", file=sys.stderr)
        sys.exit(2)
