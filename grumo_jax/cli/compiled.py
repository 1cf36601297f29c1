"""JAX's persistent cache of compiled programs."""

import os
import platform
import warnings
from pathlib import Path
from typing import Any

import jax

from grumo_jax._internal.hashing import hash_bytes

LARGEST = 2**30
"""Largest size of the cache, bytes; the oldest programs are deleted first."""
SHORTEST = 0.0
"""Shortest compile time of cached programs, seconds: all are, since small ones add up."""


def keep_compiled() -> None:
    """Cache compiled programs in the user's cache folder, unless JAX is configured otherwise.

    `JAX_COMPILATION_CACHE_DIR=…` names another folder, and `JAX_ENABLE_COMPILATION_CACHE=false`
    turns it off. Each processor has a folder of its own, since machines may share a home: programs
    are compiled for a processor, and JAX's cache keys do not tell which.
    """
    config: Any = jax.config
    if config.jax_compilation_cache_dir is not None or not config.jax_enable_compilation_cache:
        return
    try:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        folder = Path(home) / "grumo_jax" / f"compiled-{_processor()}"
        folder.mkdir(parents=True, exist_ok=True)
        _forget_oldest(folder)
    except (OSError, RuntimeError):  # no writable home: compile each time
        return
    # A full disk or a truncated file only costs another compilation.
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache")
    config.update("jax_compilation_cache_dir", str(folder))
    config.update("jax_persistent_cache_min_compile_time_secs", SHORTEST)


def _processor() -> str:
    """A short name of the processor and its features."""
    described = [platform.machine(), platform.processor()]
    if (info := Path("/proc/cpuinfo")).exists():
        kinds = ("model name", "flags", "Features", "CPU part")
        described += [line for line in info.read_text().splitlines() if line.startswith(kinds)][:8]
    return hash_bytes("\n".join(sorted(set(described))).encode())[:12]


def _forget_oldest(folder: Path) -> None:
    """Delete the oldest files until the rest fit into `LARGEST`."""
    files = [(file.stat().st_mtime, file.stat().st_size, file) for file in folder.iterdir()]
    total = sum(size for _, size, _ in files)
    for _, size, file in sorted(files, key=lambda entry: entry[:2]):
        if total <= LARGEST:
            return
        file.unlink(missing_ok=True)
        total -= size
