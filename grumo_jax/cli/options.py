"""Options that commands of different kinds have."""

from typing import Annotated

import typer

HostsOption = Annotated[
    str | None,
    typer.Option(
        help="Work together with other processes: auto on TPU slices and under SLURM, else "
        "ADDRESS:PORT,I/N. See docs/scale.md."
    ),
]
WorkersOption = Annotated[int, typer.Option(min=0, help="Threads that read images ahead.")]
