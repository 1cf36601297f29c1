"""Freed memory stays with the process once the program has asked for that."""

import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import sys
import numpy as np
from grumo_jax.cli.memory import keep_memory
if sys.argv[1] == "kept":
    keep_memory()
block = np.ones(2**24)  # 128 MB
del block
pages = int(open("/proc/self/statm").read().split()[1])
print(pages * int(sys.argv[2]) // 2**20)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the settings are glibc's")
def test_freed_memory_is_kept_if_that_is_asked_for():
    left = {
        side: int(
            subprocess.run(
                [sys.executable, "-c", PROGRAM, side, str(os.sysconf("SC_PAGE_SIZE"))],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for side in ("kept", "given back")
    }
    assert left["kept"] - left["given back"] > 100
