"""Ending the program on Ctrl-C, SIGTERM, or the loss of its terminal."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
GRACE = 1.0
"""Seconds to remove unfinished files; the next run removes the rest."""
SENTENCE = (
    "grumo: interrupted; every file that is there is whole, and the same command goes on from them "
    "or begins again\n"
)


@contextmanager
def ending_on_signals() -> Iterator[None]:
    """Within this context, signals end the program within a second, with one line.

    A signal raises SystemExit in the running code, which removes unfinished files on the way out.
    But Python handles signals only between its own instructions, and the program spends most of its
    time in compiled code; and JAX's callbacks, such as after garbage collection, swallow
    exceptions. So a thread, which Python's C code wakes on signals, makes sure that the process
    ends.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may handle signals
        return
    ending, hook = _Ending(), sys.unraisablehook
    ears, mouth = socket.socketpair()
    mouth.setblocking(False)
    before = {number: signal.getsignal(number) for number in SIGNALS}
    # Signals that were ignored, such as by nohup, still are.
    taken = [number for number, handler in before.items() if handler != signal.SIG_IGN]
    told = signal.set_wakeup_fd(mouth.fileno(), warn_on_full_buffer=False)
    sys.unraisablehook = lambda found: ending.swallow() or hook(found)
    threading.Thread(target=ending.watch, args=[ears], daemon=True).start()
    for number in taken:
        signal.signal(number, ending.unwind)
    try:
        yield
    finally:
        if ending.number is not None:
            sys.stdout.flush()
            ending.end(ending.number)
        for number in taken:
            signal.signal(number, before[number])
        sys.unraisablehook = hook
        signal.set_wakeup_fd(told)
        mouth.close()


class _Ending:
    """State of the signal that ends the program.

    Attributes:
        number: the signal, once Python has handled it.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._swallowed = False
        self._once = threading.Lock()

    def unwind(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal: unwind the stack. Further signals do not interrupt that."""
        if self.number is None or self._swallowed:
            self.number, self._swallowed = number, False
            raise SystemExit(128 + number)

    def swallow(self) -> bool:
        """Note that an exception was swallowed; return whether it was that of `unwind`."""
        self._swallowed = self.number is not None
        return self._swallowed

    def watch(self, ears: socket.socket) -> None:
        """In a thread, wait for signals, and end the program if it does not end by itself."""
        with ears:
            while heard := ears.recv(1):
                if heard[0] in SIGNALS and self._is_meant(heard[0]):
                    self._wait(signal.Signals(heard[0]))

    def end(self, number: int, before: str = "") -> NoReturn:
        """End the process, with one line."""
        if self._once.acquire(blocking=False):
            try:
                os.write(2, (before + SENTENCE).encode())
            finally:  # printing may fail, with nobody left to read it
                os._exit(128 + number)
        time.sleep(10 * GRACE)  # another thread is doing it
        os._exit(128 + number)

    def _is_meant(self, number: int) -> bool:
        handler = signal.getsignal(number)
        return handler.is_second() if isinstance(handler, _Notes) else handler == self.unwind

    def _wait(self, number: signal.Signals) -> None:
        deadline = time.monotonic() + GRACE
        while time.monotonic() < deadline:
            time.sleep(0.05)
            if self._swallowed and hasattr(signal, "pthread_kill"):
                signal.pthread_kill(threading.main_thread().ident or 0, number)
        self.end(number, "\n" if sys.stderr.isatty() else "")


class _Notes:
    """A handler that notes the first signal and leaves the second to the previous handlers."""

    def __init__(self) -> None:
        self.received: list[int] = []
        self.before: dict[signal.Signals, Any] = {}
        self._heard = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if not self.received:
            self.received.append(number)
        elif callable(handler := self.before[signal.Signals(number)]):
            handler(number, frame)
        else:
            signal.signal(number, handler)
            signal.raise_signal(number)

    def is_second(self) -> bool:
        """Whether this is not the first call; Python may not have handled the first signal yet."""
        self._heard += 1
        return self._heard > 1


@contextmanager
def stop_on_signals() -> Iterator[list[int]]:
    """Note SIGTERM and Ctrl-C instead of ending; a second one ends the program as usual.

    Yields:
        The signals received.
    """
    notes = _Notes()
    for chosen in (signal.SIGTERM, signal.SIGINT):
        notes.before[chosen] = signal.signal(chosen, notes)
    try:
        yield notes.received
    finally:
        for chosen, handler in notes.before.items():
            signal.signal(chosen, handler)
