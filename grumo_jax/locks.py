"""Keeping two processes from writing the same files."""

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
