"""Options shared by commands."""

import functools
import inspect
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

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


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """Turn a command's last parameter, a dataclass, into one option for each of its fields.

    Fields are declared like typer's parameters. --help lists required parameters first, then the
    command's own options, then the fields.
    """
    *own, last = inspect.signature(command).parameters.values()
    fields = inspect.signature(last.annotation).parameters

    @functools.wraps(command)
    def unfolded(**given: Any) -> None:
        options = last.annotation(**{name: given.pop(name) for name in fields})
        command(**given, **{last.name: options})

    parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in (*own, *fields.values())]
    parameters.sort(key=lambda parameter: parameter.default is not parameter.empty)
    vars(unfolded)["__signature__"] = inspect.Signature(parameters)
    return unfolded


def check_out(out: Path) -> None:
    """Raise a `GrumoError` if this cannot be a folder to write to.

    Removes unfinished files of killed programs in it.
    """
    there = next(path for path in (out, *out.absolute().parents) if os.path.exists(path))
    if not there.is_dir():
        raise GrumoError(f"{there}: a file; --out names the folder for the results")
    if not os.access(there, os.W_OK | os.X_OK):
        raise GrumoError(f"{there}: no permission to write there; name another folder with --out")
    remove_unfinished(out)
