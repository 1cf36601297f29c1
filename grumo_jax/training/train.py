"""Training: from a source of images to a checkpoint."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from grumo_jax._internal.hosts import broadcast, check_same, exchange, is_first, noticing_loss
from grumo_jax.data import Source
from grumo_jax.errors import GrumoError
from grumo_jax.evaluation.definitions import METRIC_DEFINITIONS
from grumo_jax.networks.checkpoint import CARD, load_checkpoint
from grumo_jax.networks.monodepth2 import Monodepth2
from grumo_jax.training.devices import make_mesh, replicate
from grumo_jax.training.feeding import Fed, Fit, feed, resume_position
from grumo_jax.training.folder import MODEL, STATES, find_checkpoint, open_run, run_seal
from grumo_jax.training.log import RunLog
from grumo_jax.training.loop import Loop, Pace
from grumo_jax.training.saving import Saved, list_states, load_latest
from grumo_jax.training.settings import Settings
from grumo_jax.training.starting import (
    check_same_units,
    hash_of_weights,
    is_unfinished,
    start_variables,
)
from grumo_jax.training.state import (
    Networks,
    TrainingState,
    initial_state,
    initial_variables,
    make_optimiser,
    make_schedule,
    snapshot_steps,
)
from grumo_jax.training.step import make_step
from grumo_jax.training.validation import Validation
from grumo_jax.version import __version__

Report = Callable[[str], None]


@dataclass(frozen=True)
class TrainingResult:
    """A finished training.

    Attributes:
        steps: number of steps.
        model: the network.
        variables: its {"params", "batch_stats"}.
        checkpoint: where both are saved, for `grumo predict` and `grumo evaluate`.
        snapshots: checkpoints of the base model "snap"; else empty.

    Example:
        >>> from grumo_jax import load_checkpoint, shipped_checkpoint
        >>> path = shipped_checkpoint("synthetic")
        >>> TrainingResult(20_000, *load_checkpoint(path), path).model.input_size
        (128, 320)
    """

    steps: int
    model: Monodepth2
    variables: Any
    checkpoint: Path
    snapshots: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Weights:
    """Files that a training starts from or learns from, or None.

    Attributes:
        encoder: a torchvision ResNet's weights (.pth), for the encoders of both networks.
        init: checkpoint, or another run's folder, to start from.
        teacher: checkpoint, or run's folder, of the base model "self".

    Example:
        >>> weights = Weights(init="runs/log")
        >>> weights.init, weights.teacher
        ('runs/log', None)
    """

    encoder: str | Path | None = None
    init: str | Path | None = None
    teacher: str | Path | None = None

    def hashes(self) -> dict[str, str | None]:
        """A hash of each, or None."""
        return {
            field.name: hash_of_weights(getattr(self, field.name))
            for field in dataclasses.fields(self)
        }


NO_WEIGHTS = Weights()

DEFINITION = 1
"""Recorded with a run. Raise it when the same settings and data give another network than before:
initial weights, order, augmentation, losses, optimiser."""


def train(
    settings: Settings,
    source: Source,
    out: str | Path,
    *,
    validation: Source | None = None,
    weights: Weights = NO_WEIGHTS,
    devices: Sequence[jax.Device] | None = None,
    log_every: int = 20,
    evaluate_every: int = 500,
    save_every: int = 500,
    validation_images: int = 128,
    workers: int = 2,
    progress: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    report: Report = lambda sentence: None,
) -> TrainingResult:
    """Train a network, or resume an interrupted training.

    The same call on the same folder resumes from the last saved state, and ends with the same bits
    as an uninterrupted training (on the same machine and devices). The folder gets `run.json`,
    `log.csv`, `validation.csv`, `events/` (TensorBoard), `pictures/`, `checkpoints/` (the last two
    states), and at the end `model/`.

    Several processes (`grumo_jax._internal.hosts.join`) that make this call train one network: each
    reads its part of every batch, and the first one reads and writes the folder.

    Args:
        settings: everything the result depends on.
        source: the training images.
        out: the run's folder, created or continued.
        validation: held-out images to measure the network on; see `Validation`.
        weights: what to start from, and a teacher.
        devices: the batch is sharded over them; by default all devices of all processes.
        log_every, evaluate_every, save_every: steps between rows of the log, between
            validations, and between states; a kill costs at most `save_every` steps.
        validation_images: number of images of `validation` to use.
        workers: threads that read and resize ahead.
        progress: show a bar on standard error.
        should_stop: called after each step; if True, the state is saved and the training ends.
        report: called with a sentence for each problem that does not end the training.

    Returns:
        The trained network, and where it is saved.

    Raises:
        TrainingInterrupted: if `should_stop` returned True.
        TrainingDiverged: if something is not finite; the message says what, and when.
        HostLostError: if another process has ended.
        GrumoError: if settings, data and folder do not fit together.

    Example:
        >>> from grumo_jax.data import ImageFolder
        >>> from grumo_jax.training import preset
        >>> settings, source = preset("synthetic-depth"), ImageFolder("photos", "depth")
        >>> result = train(settings, source, "runs/depth")  # doctest: +SKIP
    """
    mesh = make_mesh(jax.devices() if devices is None else devices, settings.batch_size)
    pace, steps = Pace(log_every, evaluate_every, save_every), _count_steps(settings, source)
    _check_teacher(settings, weights)
    identity = {**settings.to_json(), "source": source.name, "contents": source.fingerprint}
    place = jax.process_index(), jax.process_count()
    identity = {**identity, **weights.hashes(), "total_steps": steps, "grumo_jax": __version__}
    identity["definitions"] = {"training": DEFINITION, "metrics": METRIC_DEFINITIONS}
    check_same(identity)
    with _open(Path(out), identity) as folder:
        saved = _resume(settings, steps, weights, folder, report)
        is_exported = exchange((folder / MODEL / CARD).is_file())[0]
        if saved.step == steps and is_exported:
            return _result(settings, steps, folder)
        teacher, labels = _load_teacher(settings, weights)

        def batches(start: int) -> Iterator[Fed]:
            options: Any = {"workers": workers, "report": report}
            order: Any = {"seed": settings.seed, "shard": place, "start": start}
            return feed(source, Fit.of(settings), settings.batch_size, **order, **options)

        validator = None
        if validation is not None:
            validator = Validation(settings, validation, teacher, validation_images, workers)
            validator.check(saved.state, labels)
        with noticing_loss(), RunLog(folder, saved.step) if is_first() else nullcontext() as log:
            Loop(
                settings=settings,
                steps=steps,
                folder=folder,
                run_id=run_seal(folder) if is_first() else "",
                take_step=make_step(settings, steps, teacher=teacher, mesh=mesh),
                labels=replicate(labels, mesh),
                batches=batches,
                mesh=mesh,
                log=log,
                pace=pace,
                validation=validator,
                should_stop=should_stop,
                progress=progress and is_first(),
                state=replicate(saved.state, mesh),
                done=saved.step,
                position=resume_position(saved.positions, place),
            ).run()
        return _result(settings, steps, folder)


def train_members(
    settings: Settings, source: Source, out: str | Path, *, members: int = 8, **options: Any
) -> list[TrainingResult]:
    """Train the same network several times from different seeds: the base model "boot".

    Members go to `out/member_0`, `out/member_1`, …, with the seeds `seed`, `seed` + 1, …. The
    same call resumes; finished members are left alone.

    Args:
        settings, source, out: see `train`.
        members: number of trainings.
        options: of `train`.

    Raises:
        GrumoError: as `train`, or if there are fewer than two members.

    Example:
        >>> from grumo_jax.data import ImageFolder
        >>> from grumo_jax.training import preset
        >>> settings, source = preset("synthetic-depth"), ImageFolder("photos", "depth")
        >>> results = train_members(settings, source, "runs/boot", members=2)  # doctest: +SKIP
    """
    if members < 2:
        raise GrumoError(f"an ensemble of {members} is none; train 2 members or more")
    return [
        train(
            settings.replace({"seed": (settings.seed + i) % 2**32}),
            source,
            Path(out) / f"member_{i}",
            **options,
        )
        for i in range(members)
    ]


def _count_steps(settings: Settings, source: Source) -> int:
    steps = settings.number_of_steps(len(source))
    if settings.base_model == "snap" and steps < settings.cycles:
        raise GrumoError(f"{steps} steps are too few for {settings.cycles} cycles")
    return steps


def _check_teacher(settings: Settings, weights: Weights) -> None:
    if (settings.base_model == "self") == (weights.teacher is not None):
        return
    if weights.teacher is None:
        raise GrumoError(
            "the base model self learns from a network that was trained before; name it: --teacher"
        )
    raise GrumoError(f"the base model {settings.base_model} has no teacher; only self has one")


def _load_teacher(settings: Settings, weights: Weights) -> tuple[Monodepth2 | None, Any]:
    if weights.teacher is None:
        return None, None
    path = Path(weights.teacher)
    if is_unfinished(path):
        raise GrumoError(f"{path}: that training is not finished; finish it before it can teach")
    teacher, variables = load_checkpoint(find_checkpoint(path))
    check_same_units(teacher, Networks.of(settings).depth, path)
    return teacher, variables


def _open(path: Path, identity: dict[str, Any]) -> AbstractContextManager[Path]:
    """The run's folder, which only the first process touches."""
    return open_run(path, identity) if is_first() else nullcontext(path.resolve())


def _resume(
    settings: Settings, steps: int, weights: Weights, folder: Path, report: Report
) -> Saved:
    """The last saved state, or an initial one, sent from the first process to all."""
    optimiser = make_optimiser(settings, make_schedule(settings, steps))
    average = settings.average_decay is not None

    def begin() -> TrainingState:
        return initial_state(initial_variables(settings), optimiser, average=average)

    if not is_first():
        saved = Saved(0, (), _zeros_like(begin))
    elif list_states(folder / STATES):
        like, run = jax.eval_shape(begin), run_seal(folder)
        saved = load_latest(folder / STATES, like, report, run=run, steps=steps)
    else:
        variables = start_variables(settings, encoder=weights.encoder, init=weights.init)
        saved = Saved(0, (0,), initial_state(variables, optimiser, average=average))
    step, positions = exchange([saved.step, saved.positions])[0]
    return Saved(step, tuple(positions), broadcast(saved.state))


def _result(settings: Settings, steps: int, folder: Path) -> TrainingResult:
    if is_first():
        model, variables = load_checkpoint(folder / MODEL)
    else:
        model = Networks.of(settings).depth.clone(dtype=None)
        variables = _zeros_like(lambda: initial_variables(settings)["depth"])
    cycles = snapshot_steps(settings, steps).values()
    snapshots = tuple(folder / f"snapshot_{cycle}" for cycle in cycles)
    return TrainingResult(steps, model, broadcast(variables), folder / MODEL, snapshots)


def _zeros_like(make: Callable[[], Any]) -> Any:
    """Zeros of the result's shapes, without computing it: a buffer for another process's."""
    return jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), jax.eval_shape(make))
