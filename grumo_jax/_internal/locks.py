"""Keeping two processes from writing the same files."""

import os
from pathlib import Path
from typing import IO, Any


def lock_file(stream: IO[Any] | int) -> bool:
    """Lock an open file for this process until it is closed, without waiting.

    Where Python has no `fcntl`, as on Windows, nothing is locked and the answer is True: whoever
    starts two processes at once there must know.

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
    except (BlockingIOError, PermissionError):  # network file systems say the latter
        return False
    return True


def open_alone(path: Path) -> IO[bytes] | None:
    """Open a file for writing, empty, and lock it until it is closed.

    What a process that was killed has left there is overwritten: its lock ended with it.

    Returns:
        The open file; None if a living process is writing it, or files cannot be locked there.
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
        # Until the lock was had, another process may have moved the file away.
        if path.exists() and os.path.samestat(os.fstat(stream.fileno()), path.stat()):
            stream.truncate(0)
            return stream
        stream.close()
