"""Ctrl-C and its relatives end the program soon, wherever it is, with one line."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

MODULE = Path(__file__).parents[1] / "grumo_jax" / "cli" / "interrupts.py"
START = f"""
import gc, hashlib, importlib.util, os, signal, sys, threading, time

spec = importlib.util.spec_from_file_location("interrupts", {str(MODULE)!r})
interrupts = importlib.util.module_from_spec(spec)
spec.loader.exec_module(interrupts)  # alone, since the rest takes seconds to import
signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells may have ignored,
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and nohup
number = int(sys.argv[1])

def from_outside(*seconds):
    for one in seconds:
        threading.Timer(one, os.kill, (os.getpid(), number)).start()

def compute_for_minutes():
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)  # in C, as compiled programs are
"""
LINE = "grumo: interrupted; every file that is there is whole, and the same command goes on"


def run(script, number):
    """(status, standard output, standard error, seconds) of a script."""
    begin = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", START + textwrap.dedent(script), str(int(number))],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stdout, ended.stderr, time.monotonic() - begin


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_is_unfinished_is_removed_on_the_way_out(number):
    status, out, err, _ = run(
        """
        with interrupts.ending_on_signals():
            try:
                from_outside(0.1)
                time.sleep(50)
            finally:
                print("removed")
        """,
        number,
    )
    assert (status, out) == (128 + number, "removed\n")
    assert err.startswith(LINE)
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_compiled_code_does_not_hold_it_up(number):
    status, _, err, seconds = run(
        """
        with interrupts.ending_on_signals():
            from_outside(0.1, 0.3)
            compute_for_minutes()
        """,
        number,
    )
    assert status == 128 + number
    assert err.startswith(LINE)
    assert len(err.splitlines()) == 1
    assert seconds < 10


def test_a_callback_that_swallows_it_does_not_hold_it_up():
    status, out, err, _ = run(
        """
        def callback(phase, info):
            if phase == "start":
                signal.raise_signal(number)

        with interrupts.ending_on_signals():
            try:
                gc.callbacks.append(callback)
                gc.collect()
                gc.callbacks.clear()
                time.sleep(50)
            finally:
                print("removed")
        """,
        signal.SIGINT,
    )
    assert (status, out) == (130, "removed\n")
    assert err.startswith(LINE)
    assert len(err.splitlines()) == 1


def test_code_that_catches_everything_does_not_hold_it_up():
    status, out, err, _ = run(
        """
        with interrupts.ending_on_signals():
            from_outside(0.1)
            try:
                time.sleep(50)
            except BaseException:
                pass
            compute_for_minutes()
        """,
        signal.SIGINT,
    )
    assert (status, out) == (130, "")
    assert err.startswith(LINE)


def test_an_error_that_it_causes_is_not_shown():
    status, _, err, _ = run(
        """
        with interrupts.ending_on_signals():
            from_outside(0.1)
            try:
                time.sleep(50)
            except BaseException as error:
                raise ImportError("half a module") from error
        """,
        signal.SIGINT,
    )
    assert status == 130
    assert len(err.splitlines()) == 1


def test_the_first_signal_may_be_noted_and_the_second_one_ends():
    status, out, err, _ = run(
        """
        with interrupts.ending_on_signals(), interrupts.stop_on_signals() as received:
            from_outside(0.1)
            time.sleep(0.5 + interrupts.GRACE)
            print(received, flush=True)
            from_outside(0.1)
            compute_for_minutes()
        """,
        signal.SIGTERM,
    )
    assert (status, out) == (143, "[15]\n")
    assert err.startswith(LINE)


def test_ignored_signals_stay_ignored_and_handlers_are_put_back():
    status, out, err, _ = run(
        """
        signal.signal(number, signal.SIG_IGN)
        hook, before = sys.unraisablehook, signal.getsignal(signal.SIGINT)
        with interrupts.ending_on_signals():
            signal.raise_signal(number)
        assert signal.getsignal(signal.SIGINT) is before
        assert sys.unraisablehook is hook
        assert signal.set_wakeup_fd(-1) == -1
        print("done")
        """,
        signal.SIGHUP,
    )
    assert (status, out, err) == (0, "done\n", "")


def test_the_program_is_ready_before_it_imports():
    ended = subprocess.run(
        [
            sys.executable,
            "-c",
            START + "from_outside(0.3)\nimport grumo\nsys.argv[1:] = ['--help']\ngrumo.main()",
            str(int(signal.SIGINT)),
        ],
        cwd=MODULE.parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 130
    assert ended.stderr == "grumo: interrupted; give the same command again\n"
