"""Processes of the program that work together on this machine, and that can be made to end."""

import os
import socket
import subprocess
import sys

GRUMO = """
import os, sys
from importlib import import_module
from grumo_jax.cli import main

place, number, calls = sys.argv.pop(1), int(sys.argv.pop(1)), int(sys.argv.pop(1))
if number:
    module, kind, name = place.rsplit(".", 2)
    kind = getattr(import_module(module), kind)
    method, left = getattr(kind, name), [calls]

    def hurt(*args):
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), number)
        return method(*args)

    setattr(kind, name, hurt)
main()
"""
LIVES = (0, 0)


class Programs:
    """Starts `grumo`, one process of it or two that work together.

    Args:
        cache: folder where compiled programs are kept, as they are for users.
        place: the method, such as "grumo_jax.training.loop.Loop._advance", that is called when a
            process gets a signal.
        command: what comes after `grumo`.
    """

    def __init__(self, cache, place, *command):
        self.cache, self.place, self.command = cache, place, command

    def start(self, *options, fate=LIVES, devices=1):
        """One process; `fate` is (signal, at which call of the method)."""
        command = [sys.executable, "-c", GRUMO, self.place, *fate, *self.command, *options]
        environment = os.environ | {
            "JAX_PLATFORMS": "cpu",
            "JAX_ENABLE_COMPILATION_CACHE": "true",
            "XDG_CACHE_HOME": str(self.cache),
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        }
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*map(str, command)], env=environment, stdout=pipe, stderr=pipe, text=True
        )

    def alone(self, *options, devices=1):
        """(status, stdout, stderr)."""
        return finish(self.start(*options, devices=devices))

    def together(self, *options, fates=(LIVES, LIVES)):
        """The same of two processes."""
        with socket.socket() as free:
            free.bind(("localhost", 0))
            address = f"localhost:{free.getsockname()[1]}"
        running = [
            self.start(*options, "--hosts", f"{address},{i}/2", fate=fate)
            for i, fate in enumerate(fates)
        ]
        return [finish(process) for process in running]


def finish(process):
    """(status, stdout, stderr)."""
    out, err = process.communicate(timeout=300)
    # Gloo announces itself on standard output.
    own = [line for line in out.splitlines(keepends=True) if not line.startswith("[Gloo]")]
    return process.returncode, "".join(own), err
