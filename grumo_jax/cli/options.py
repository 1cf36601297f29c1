"""Options that commands of different kinds have."""

import os
from pathlib import Path
from typing import Annotated

import typer

from grumo_jax._internal.atomic_writes import remove_unfinished
from grumo_jax.errors import GrumoError

HostsOption = Annotated[
    str | None,
    typer.Option(
        help="Work together with other processes: auto on TPU slices and under SLURM, else "
        "ADDRESS:PORT,I/N. See docs/scale.md."
    ),
]
WorkersOption = Annotated[int, typer.Option(min=0, help="Threads that read images ahead.")]


def check_out(out: Path) -> None:
    """Raise a `GrumoError` if there can be no folder of that name to write to.

    Unfinished files in it, of a program that was killed, are removed.
    """
    there = next(path for path in (out, *out.absolute().parents) if os.path.exists(path))
    if not there.is_dir():
        raise GrumoError(f"{there}: a file; --out names the folder for the results")
    if not os.access(there, os.W_OK | os.X_OK):
        raise GrumoError(f"{there}: no permission to write there; name another folder with --out")
    remove_unfinished(out)
