"""What it costs to give memory back after every call: a training step, with and without.

    python benchmarks/memory.py --rounds 15

Each side runs in a process of its own, since malloc's settings are the process's; they are pinned
to one core and take turns.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time

PRESET = "synthetic-depth"
SIDES = ("as the system has it", "kept, as the program does")


def main() -> None:
    """Start both sides, let them take turns, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--alone", type=int, choices=(0, 1), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone is not None:
        serve(keep=bool(options.alone))
        return
    sides = [start(i) for i in range(len(SIDES))]
    times: list[list[float]] = [[] for _ in sides]
    for _ in range(options.rounds + 1):
        for side, taken in zip(sides, times, strict=True):
            taken.append(ask(side))
    print(f"| {PRESET}, memory | median ms | fastest | slowest |\n|---|---|---|---|")
    for name, side, taken in zip(SIDES, sides, times, strict=True):
        side.communicate()
        warm = taken[1:]
        print(f"| {name} | {statistics.median(warm):.0f} | {min(warm):.0f} | {max(warm):.0f} |")


def start(side: int) -> subprocess.Popen[str]:
    """A process that measures one side."""
    command = [sys.executable, __file__, "--alone", str(side)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(side: subprocess.Popen[str]) -> float:
    """Have it take a step; milliseconds."""
    assert side.stdin is not None
    assert side.stdout is not None
    side.stdin.write("go\n")
    side.stdin.flush()
    return float(side.stdout.readline())


def serve(*, keep: bool) -> None:
    """Take a step for each line that comes in, and print the milliseconds it took."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if keep:
        from grumo_jax.cli.memory import keep_memory

        keep_memory()
    import jax
    import numpy as np

    from grumo_jax.training import make_step, preset
    from grumo_jax.training.state import (
        initial_state,
        initial_variables,
        make_optimiser,
        make_schedule,
    )

    settings = preset(PRESET)
    shape = (settings.batch_size, *settings.size)
    rng = np.random.default_rng(0)
    arrays = {
        "image": rng.integers(0, 256, (*shape, 3), np.uint8),
        "depth": rng.uniform(3, 80, shape).astype(np.float32),
    }
    schedule = make_schedule(settings, 100)
    state = initial_state(initial_variables(settings), make_optimiser(settings, schedule))
    step = make_step(settings, 100)
    for _ in sys.stdin:
        began = time.perf_counter()
        state, _ = step(state, arrays, None)
        jax.block_until_ready(state)
        print(1e3 * (time.perf_counter() - began), flush=True)


if __name__ == "__main__":
    main()
