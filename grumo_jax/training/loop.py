"""The steps of a run, with logging, validation and saving between them."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from grumo_jax._internal.hosts import exchange
from grumo_jax.errors import GrumoError
from grumo_jax.networks.checkpoint import save_checkpoint
from grumo_jax.training.devices import on_one_device, share
from grumo_jax.training.feeding import Fed
from grumo_jax.training.folder import MODEL, STATES
from grumo_jax.training.log import SCALARS, VALIDATION, RunLog
from grumo_jax.training.saving import list_states, save_state
from grumo_jax.training.settings import Settings
from grumo_jax.training.state import Networks, TrainingState, snapshot_steps
from grumo_jax.training.step import Metrics, Step, make_statistics
from grumo_jax.training.stopping import Stopping
from grumo_jax.training.validation import Validation

LAG = 3
"""Metrics are read so many steps later, so that the device never waits for Python."""


class TrainingInterrupted(GrumoError):
    """The training was asked to stop; the same call resumes it.

    Example:
        >>> issubclass(TrainingInterrupted, GrumoError)
        True
    """


class TrainingDiverged(GrumoError):
    """A loss, gradient or update of the training is not finite.

    Example:
        >>> issubclass(TrainingDiverged, GrumoError)
        True
    """


@dataclass(frozen=True)
class Pace:
    """Steps between rows of the log, between validations, and between saved states."""

    log: int = 20
    evaluate: int = 500
    save: int = 500

    def __post_init__(self) -> None:
        for name in ("log", "evaluate", "save"):
            if getattr(self, name) < 1:
                raise GrumoError(f"{name}_every is {getattr(self, name)}; expected 1 or more")


@dataclass
class Loop:
    """A run in progress.

    Attributes:
        settings, steps, folder: of the run.
        run_id: the mark of its states, see `save_state`.
        take_step: from `make_step`.
        labels: the teacher's variables, or None.
        batches: position → the batches from there on.
        mesh: the devices.
        log: None in all processes but the first, the only one that writes.
        pace: how often to log, validate and save.
        validation: measures the network, or None.
        should_stop: called after each step; see `Stopping`.
        progress: show a bar.
        state: of the last step.
        done: number of steps done.
        position: samples used by this process.
    """

    settings: Settings
    steps: int
    folder: Path
    run_id: str
    take_step: Step
    labels: Any
    batches: Callable[[int], Iterator[Fed]]
    mesh: Mesh
    log: RunLog | None
    pace: Pace
    validation: Validation | None
    should_stop: Callable[[], bool]
    progress: bool
    state: TrainingState
    done: int
    position: int
    _pending: deque[tuple[int, Metrics]] = field(default_factory=deque)
    _clock: tuple[int, float] | None = None

    def run(self) -> None:
        """Take the remaining steps, and export the network."""
        snapshots = snapshot_steps(self.settings, self.steps)
        bar = tqdm(total=self.steps, initial=self.done, unit="step", disable=not self.progress)
        is_time = Stopping(self.should_stop, self.mesh, LAG)
        with bar, closing(self._feed()) as batches:
            while self.done < self.steps:
                self._advance(next(batches), bar)
                if self._is_due(self.pace.evaluate):
                    self._validate(bar)
                if self.done in snapshots:
                    self._export(f"snapshot_{snapshots[self.done]}", bar)
                if self._is_due(self.pace.save):
                    self._save(bar)
                if self.done < self.steps and is_time():
                    self._interrupt(bar)
            self._export(MODEL, bar)

    def _feed(self) -> Any:
        return self.batches(self.position)

    def _advance(self, fed: Fed, bar: Any) -> None:
        arrays = share(fed.arrays, self.mesh)
        self.state, metrics = self.take_step(self.state, arrays, self.labels)
        self.done, self.position = self.done + 1, fed.position
        self._pending.append((self.done, metrics))
        self._read_metrics(bar, leave=LAG)
        bar.update()

    def _is_due(self, every: int) -> bool:
        return self.done % every == 0 or self.done == self.steps

    def _read_metrics(self, bar: Any, *, leave: int = 0) -> None:
        """Check the metrics of all but the last `leave` steps, and log those that are due."""
        while len(self._pending) > leave:
            step, metrics = self._pending.popleft()
            values = _in_order({name: float(x) for name, x in jax.device_get(metrics).items()})
            self._check(step, values)
            if self._clock is None:
                # The first step is not timed: it includes compilation.
                self._clock = (step, time.perf_counter())
            if step % self.pace.log == 0:
                self._log(step, values)
                bar.set_postfix(loss=f"{values['loss']:.4g}", refresh=False)

    def _log(self, step: int, values: dict[str, float]) -> None:
        assert self._clock is not None
        now, (since, then) = time.perf_counter(), self._clock
        self._clock = (step, now)
        rate = (step - since) / max(now - then, 1e-9)
        if self.log:
            self.log.add(SCALARS, step, {**values, "steps_per_second": rate})

    @contextmanager
    def _untimed(self) -> Iterator[None]:
        """Stop the clock for work that is no part of the steps."""
        start = time.perf_counter()
        yield
        if self._clock is not None:
            self._clock = (self._clock[0], self._clock[1] + time.perf_counter() - start)

    def _check(self, step: int, values: Mapping[str, float]) -> None:
        wrong = [f"{name} is {value}" for name, value in values.items() if not np.isfinite(value)]
        if not wrong:
            return
        states = exchange([str(file) for file in list_states(self.folder / STATES)])[0]
        last = f"the last good state is {states[-1]}" if states else "no state was saved before"
        raise TrainingDiverged(
            f"step {step}: {', '.join(wrong)}; neither this step nor any after it was taken, and "
            f"{last}; train into another folder with a lower learning rate or gradient_clip"
            + (f", from there if you like (--init {self.folder})" if states else "")
        )

    def _validate(self, bar: Any) -> None:
        if self.validation is None:
            return
        self._read_metrics(bar)
        with self._untimed():
            state, labels = on_one_device((self.state, self.labels))
            values = self.validation.measure(state, labels)
            if self.log:
                self.log.add(VALIDATION, self.done, values)
                self.log.picture(self.done, self.validation.draw(state))

    def _save(self, bar: Any) -> None:
        # Before a state is saved, all its steps are checked and their rows are on disk.
        self._read_metrics(bar)
        with self._untimed():
            positions = exchange(self.position)
            if self.log:
                self.log.flush()
                save_state(self.folder / STATES, self.done, positions, self.state, run=self.run_id)

    def _interrupt(self, bar: Any) -> None:
        self._save(bar)
        raise TrainingInterrupted(
            f"stopped after step {self.done} of {self.steps}, which is saved in {self.folder}; "
            "give the same command again to resume"
        )

    def _export(self, name: str, bar: Any) -> None:
        self._read_metrics(bar)
        with self._untimed():
            variables = jax.device_get(self._final_variables())
            model = Networks.of(self.settings).depth.clone(dtype=None)
            if self.log:
                save_checkpoint(self.folder / name, model, variables, overwrite=True)

    def _final_variables(self) -> dict[str, Any]:
        """The network's variables, with BatchNorm statistics over many batches if set."""
        variables, number = self.state.variables, self.settings.statistics_batches
        if not number:
            return variables
        statistics = make_statistics(self.settings, mesh=self.mesh)
        key, total = jax.random.key(self.settings.seed), None
        with closing(self._feed()) as batches:
            for i in range(number):
                arrays = share(next(batches).arrays, self.mesh)
                # Counted down from the top: training's keys count from 0 up.
                one = statistics(variables, arrays, jax.random.fold_in(key, 2**32 - 1 - i))
                total = one if total is None else jax.tree.map(np.add, total, one)
                total = jax.device_get(total)
        return {**variables, "batch_stats": jax.tree.map(lambda x: x / np.float32(number), total)}


def _in_order(values: dict[str, float]) -> dict[str, float]:
    """Metrics in reading order: the loss, its terms, then the optimiser's."""
    last = ("learning_rate", "gradient_norm", "update_norm")
    terms = [name for name in values if name not in ("loss", *last)]
    return {name: values[name] for name in ("loss", *terms, *last)}
