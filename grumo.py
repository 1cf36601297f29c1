"""The program `grumo`: ready for Ctrl-C before it imports what takes seconds to import."""

import atexit
import os
import signal
from types import FrameType
from typing import NoReturn


def main() -> None:
    """Run the command line, `grumo_jax.cli`."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)
    # While Python takes itself down, all is done; signals would have their default effect then.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    from grumo_jax.cli import main as run

    run()


def _end(number: int, frame: FrameType | None) -> NoReturn:
    try:
        os.write(2, b"grumo: interrupted; give the same command again\n")
    finally:
        os._exit(128 + number)


if __name__ == "__main__":
    main()
