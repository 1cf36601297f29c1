"""File locks: one writer at a time."""

import os
from pathlib import Path
from typing import IO, Any


def lock_file(stream: IO[Any] | int) -> bool:
    """Lock an open file for this process until it is closed, without waiting.

    Where Python has no `fcntl`, as on Windows, nothing is locked and the result is True. There
    users must not start two processes on the same files.

    Args:
        stream: an open file, or its descriptor.

    Returns:
        False if another process holds the lock.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):  # The latter on network file systems.
        return False
    return True


def open_alone(path: Path) -> IO[bytes] | None:
    """Open a file for writing, truncate it, and lock it until it is closed.

    A killed process's file is overwritten: its lock ended with the process.

    Returns:
        The open file; None if a running process is writing it, or the file system has no locks.
    """
    while True:
        stream = open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o666), "wb")  # noqa: SIM115
        try:
            mine = lock_file(stream)
        except OSError:
            mine = False
        if not mine:
            stream.close()
            return None
        # Before the lock was acquired, another process may have renamed the file.
        if path.exists() and os.path.samestat(os.fstat(stream.fileno()), path.stat()):
            stream.truncate(0)
            return stream
        stream.close()
