"""Memory allocation of the process."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8  # glibc's malloc.h


def keep_memory() -> None:
    """Keep freed memory for reuse instead of returning it to the system (glibc only).

    On CPUs every call of a compiled program allocates all its temporary buffers. By default glibc
    maps blocks of more than 32 MB each time, and the system clears them page by page: a fifth of
    the time of a training step (`benchmarks/memory.py`). One arena, since XLA allocates from
    changing threads.
    """
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    mallopt = getattr(libc, "mallopt", None)  # musl has none
    if mallopt is None:
        return
    mallopt(_ARENA_MAX, 1)
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
