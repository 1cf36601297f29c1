"""Several processes that work on one thing, over JAX's own runtime (`jax.distributed`).

Each computes on its own devices; what they found is exchanged by JAX's collectives.
"""

import json
import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, zip_longest
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from grumo_jax.errors import GrumoError

_PLACE = re.compile(r"(?P<address>.+:\d+),(?P<index>\d+)/(?P<count>\d+)")
START_SECONDS = 300
"""How long the processes wait for each other at the start."""


class HostLostError(GrumoError):
    """Another process of the run has ended or cannot be reached."""


def join(hosts: str) -> None:
    """Become one of several processes; to be called before anything is computed.

    Args:
        hosts: "auto" where JAX can tell by itself (TPU slices, SLURM, Open MPI, Kubernetes), else
            "ADDRESS:PORT,I/N": where process 0 listens, and which of how many this one is.

    Raises:
        GrumoError: if that is not understood, or the others cannot be reached.
    """
    options: dict[str, Any] = {}
    if hosts != "auto":
        place = _PLACE.fullmatch(hosts)
        if place is None or not int(place["index"]) < int(place["count"]):
            raise GrumoError(
                f"--hosts {hosts}: expected auto, or ADDRESS:PORT,I/N with I from 0 to N - 1, such "
                "as 10.0.0.1:1234,0/2"
            )
        options = {
            "coordinator_address": place["address"],
            "process_id": int(place["index"]),
            "num_processes": int(place["count"]),
        }
    # It would take SIGTERM for itself, which is how programs are asked to stop.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(**options, initialization_timeout=START_SECONDS)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise GrumoError(
            f"--hosts {hosts}: the processes do not come together ({reason})"
        ) from error


def leave(status: int) -> NoReturn:
    """End this process, at once if it is one of several.

    An ordinary exit waits for the others, and they may be waiting for this one.
    """
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    return jax.process_index() == 0


def exchange(message: Any) -> list[Any]:
    """Every process's message, in their order; what JSON can hold, of any length.

    Raises:
        HostLostError: if another process has ended.
    """
    if jax.process_count() == 1:
        return [message]
    content = np.frombuffer(json.dumps(message).encode(), np.uint8)
    lengths = _gather(np.array([len(content)], np.int32))[:, 0]
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: len(content)] = content
    rows = _gather(padded)
    return [json.loads(row[:n].tobytes()) for row, n in zip(rows, lengths, strict=True)]


def broadcast(tree: Any) -> Any:
    """The first process's tree of arrays, in every process.

    Args:
        tree: of the same shapes and dtypes in all of them.

    Raises:
        HostLostError: if another process has ended.
    """
    if jax.process_count() == 1:
        return tree
    with noticing_loss():
        return multihost_utils.broadcast_one_to_all(tree)


def interleave(shares: Sequence[Sequence[Any]]) -> list[Any]:
    """Put together what was dealt out one by one.

    Example:
        >>> interleave([["a", "c", "e"], ["b", "d"]])
        ['a', 'b', 'c', 'd', 'e']
    """
    missing = object()
    rounds = zip_longest(*shares, fillvalue=missing)
    return [item for item in chain.from_iterable(rounds) if item is not missing]


def _gather(values: np.ndarray) -> np.ndarray:
    """Arrays of one shape from all processes, stacked."""
    with noticing_loss():
        return np.asarray(multihost_utils.process_allgather(values))


@contextmanager
def noticing_loss() -> Iterator[None]:
    """Say what an error of JAX's collectives means.

    Raises:
        HostLostError: if there are other processes and one of them has ended.
    """
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if jax.process_count() == 1 or not _is_loss(error):
            raise
        raise HostLostError(
            "another process of this run has ended or cannot be reached; where it printed a "
            "message, that says why. Give all processes their commands again: the run continues"
        ) from error


def _is_loss(error: Exception) -> bool:
    if isinstance(error, jax.errors.JaxRuntimeError):
        return "RESOURCE_EXHAUSTED" not in str(error)
    return "gloo" in str(error).lower()  # the collectives of CPUs
