"""Several processes that share one run, over JAX's own runtime (`jax.distributed`).

Each process computes on its local devices, or in training on one mesh of all devices. Results are
exchanged by JAX's collectives.
"""

import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import chain, zip_longest
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from grumo_jax._internal.differences import differences
from grumo_jax.errors import GrumoError

_PLACE = re.compile(r"(?P<address>.+:\d+),(?P<index>\d+)/(?P<count>\d+)")
START_SECONDS = 300
"""Timeout for all processes to connect at the start."""


class HostLostError(GrumoError):
    """Another process of the run has ended or cannot be reached."""


def join(hosts: str) -> None:
    """Connect this process to the others of a run. Call it before JAX computes anything.

    If some process never connects, the program ends with a sentence and status 2: JAX itself
    would abort it, and its wait cannot be interrupted.

    Args:
        hosts: "auto" where JAX detects the cluster (TPU slices, SLURM, Open MPI, Kubernetes),
            else "ADDRESS:PORT,I/N": the coordinator's address, and this process's index I of N.

    Raises:
        GrumoError: if `hosts` cannot be parsed, or process 0 cannot be reached.
    """
    place = {} if hosts == "auto" else _parse(hosts)
    if place.get("process_id"):
        _wait_for_first(hosts, place["coordinator_address"])
    # JAX's preemption service would catch SIGTERM, which asks this program to stop.
    jax.config.update("jax_enable_preemption_service", False)
    # On a timeout JAX aborts the program from C++; this timer fires first.
    patience = threading.Timer(START_SECONDS, _give_up, [hosts])
    patience.daemon = True
    patience.start()
    try:
        jax.distributed.initialize(**place, initialization_timeout=START_SECONDS + 60)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
        if hosts == "auto":
            reason += "; outside of TPU slices, SLURM, Open MPI, Kubernetes give ADDRESS:PORT,I/N"
        raise GrumoError(
            f"--hosts {hosts}: the processes do not come together ({reason})"
        ) from error
    finally:
        patience.cancel()


def _give_up(hosts: str) -> NoReturn:
    print(
        f"grumo: --hosts {hosts}: not all processes have come within {START_SECONDS} seconds; "
        "start every one of them",
        file=sys.stderr,
        flush=True,
    )
    os._exit(2)


def _parse(hosts: str) -> dict[str, Any]:
    """ADDRESS:PORT,I/N as keyword arguments of `jax.distributed.initialize`."""
    place = _PLACE.fullmatch(hosts)
    if place:
        address, index, count = place["address"], int(place["index"]), int(place["count"])
        if index < count and int(address.rpartition(":")[2]) < 2**16:
            return {
                "coordinator_address": address,
                "process_id": index,
                "num_processes": count,
            }
    raise GrumoError(
        f"--hosts {hosts}: expected auto, or ADDRESS:PORT,I/N with I from 0 to N - 1, such as "
        "10.0.0.1:1234,0/2"
    )


def _wait_for_first(hosts: str, address: str) -> None:
    """Wait until process 0 listens: on a timeout of its own JAX would abort the program."""
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > deadline:
                raise GrumoError(
                    f"--hosts {hosts}: process 0 has not answered there for {START_SECONDS} "
                    f"seconds ({error}); start it on that machine, as number 0"
                ) from error
        time.sleep(1)


def leave(status: int) -> NoReturn:
    """Exit; immediately, without cleaning up, if this process is one of several.

    An ordinary exit waits for the other processes, which may be waiting for this one: a deadlock.
    """
    if jax.distributed.is_initialized():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def is_first() -> bool:
    """Whether this is process 0, which alone writes files."""
    return jax.process_index() == 0


def exchange(message: Any) -> list[Any]:
    """All-gather a message: every process gets the list of all, in order of their index.

    Args:
        message: anything that JSON can hold, of any length.

    Raises:
        HostLostError: if another process has ended.

    Example:
        >>> exchange({"seed": 0})  # one process
        [{'seed': 0}]
    """
    if jax.process_count() == 1:
        return [message]
    content = np.frombuffer(json.dumps(message).encode(), np.uint8)
    lengths = _gather(np.array([len(content)], np.int32))[:, 0]
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: len(content)] = content
    rows = _gather(padded)
    return [json.loads(row[:n].tobytes()) for row, n in zip(rows, lengths, strict=True)]


def check_same(run: Mapping[str, Any]) -> None:
    """Check that all processes were started with the same options.

    Args:
        run: the options that the result depends on, as JSON can hold them.

    Raises:
        GrumoError: if another process describes it otherwise.
    """
    first, *others = exchange(run)
    for number, other in enumerate(others, 1):
        if names := [name for name, _, _ in differences(first, other)]:
            raise GrumoError(
                f"process {number} was given another run than process 0, with another "
                f"{', '.join(names)}; give all processes the same command"
            )


def broadcast(tree: Any) -> Any:
    """Broadcast process 0's pytree of arrays to every process.

    Args:
        tree: a pytree with the same structure, shapes and dtypes in every process.

    Raises:
        HostLostError: if another process has ended.
    """
    if jax.process_count() == 1:
        return tree
    with noticing_loss():
        return multihost_utils.broadcast_one_to_all(tree)


def interleave(shares: Sequence[Sequence[Any]]) -> list[Any]:
    """Merge shares that were dealt out round-robin.

    Example:
        >>> interleave([["a", "c", "e"], ["b", "d"]])
        ['a', 'b', 'c', 'd', 'e']
    """
    missing = object()
    rounds = zip_longest(*shares, fillvalue=missing)
    return [item for item in chain.from_iterable(rounds) if item is not missing]


def _gather(values: np.ndarray) -> np.ndarray:
    """All-gather arrays of one shape, stacked along a new first axis."""
    with noticing_loss():
        return np.asarray(multihost_utils.process_allgather(values))


@contextmanager
def noticing_loss() -> Iterator[None]:
    """Turn an error of JAX's collectives into a sentence that says which process to look at.

    Raises:
        HostLostError: if there are several processes and another one has ended.
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
