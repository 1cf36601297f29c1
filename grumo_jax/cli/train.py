"""`grumo train`: from images to a checkpoint."""

import signal
import sys
from contextlib import ExitStack
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from grumo_jax._internal.hosts import is_first, join
from grumo_jax.cli.interrupts import stop_on_signals
from grumo_jax.cli.messages import complain, one_sentence, say
from grumo_jax.cli.options import HostsOption, WorkersOption
from grumo_jax.errors import GrumoError


class BaseModel(StrEnum):
    """Where the network's uncertainty comes from."""

    plain = "plain"
    log = "log"
    self = "self"
    repr = "repr"
    drop = "drop"
    boot = "boot"
    snap = "snap"


def train(
    preset: Annotated[
        str,
        typer.Argument(
            help="kitti-mono, kitti-stereo, kitti-mono-stereo, nyu: the papers' settings. "
            "synthetic-mono, synthetic-stereo, synthetic-mono-stereo, synthetic-depth: small ones."
        ),
    ],
    data_dir: Annotated[Path, typer.Option(help="Folder of the data, prepared or not.")],
    out: Annotated[Path, typer.Option(help="The run's folder; the same one resumes.")],
    base_model: Annotated[
        BaseModel,
        typer.Option(
            help="plain; log, self, repr: a second output; drop: dropout; boot: several networks; "
            "snap: snapshots of one."
        ),
    ] = BaseModel.plain,
    steps: Annotated[int | None, typer.Option(help="Number of steps.")] = None,
    batch: Annotated[int | None, typer.Option(help="Images of a step, all devices.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights, order and augmentation.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="The highest.")] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any other setting, name=value; may be repeated."),
    ] = None,
    encoder: Annotated[
        Path | None, typer.Option(help="ImageNet weights in torchvision's form (.pth).")
    ] = None,
    init: Annotated[
        Path | None, typer.Option(help="Checkpoint, or another run's folder, to start from.")
    ] = None,
    teacher: Annotated[
        Path | None, typer.Option(help="self: checkpoint, or run's folder, to learn from.")
    ] = None,
    members: Annotated[int | None, typer.Option(help="boot: number of networks (8).")] = None,
    split_files: Annotated[
        Path | None, typer.Option(help="eigen_zhou: folder of train_files.txt and val_files.txt.")
    ] = None,
    validate: Annotated[
        bool, typer.Option(help="Measure on held-out images from time to time.")
    ] = True,
    render: Annotated[
        bool, typer.Option(help="synthetic: render all of it first, 10 minutes on one core.")
    ] = True,
    log_every: Annotated[int, typer.Option(help="Steps between rows of log.csv.")] = 20,
    evaluate_every: Annotated[int, typer.Option(help="Steps between validations.")] = 500,
    save_every: Annotated[int, typer.Option(help="Steps that a kill costs at most.")] = 500,
    workers: WorkersOption = 2,
    hosts: HostsOption = None,
) -> None:
    """Train a network, with any of the papers' base models.

    Interrupted, by Ctrl-C, SIGTERM or a crash? Give the command again: it resumes, and ends with
    the same network. OUT/model is what `grumo predict` and `grumo evaluate` take; OUT/log.csv,
    OUT/events (TensorBoard) and OUT/pictures are there to watch. All devices are used; with
    --hosts, those of several processes. Needs: pip install 'grumo-jax[data,train]'.

    Example: grumo train synthetic-mono --data-dir worlds --out runs/mono --base-model log
    """
    quick = {
        "steps": steps,
        "batch_size": batch,
        "seed": seed,
        "learning_rate": learning_rate,
    }
    given = {name: value for name, value in quick.items() if value is not None}
    settings = _settings(preset, base_model, given, assignments or [])
    boot = settings.base_model == "boot"
    if members is not None and not boot:
        raise GrumoError(f"--members is for the base model boot, not {settings.base_model}")
    if hosts:
        join(hosts)
    if settings.dataset == "synthetic" and render:
        _render(data_dir, settings.train_split, alone=not hosts)
    source, validation = _open(settings, data_dir, split_files, validate)
    from grumo_jax.training import TrainingInterrupted, Weights, train, train_members

    with ExitStack() as whole:
        noted = cache(lambda: whole.enter_context(stop_on_signals()))
        # Nothing is lost before the first step, unless other processes wait for this one.
        if hosts:
            noted()
        options: dict[str, Any] = {
            "validation": validation,
            "weights": Weights(encoder, init, teacher),
            "log_every": log_every,
            "evaluate_every": evaluate_every,
            "save_every": save_every,
            "workers": workers,
            "progress": sys.stderr.isatty(),
            "should_stop": lambda: bool(noted()),
            "report": complain,
        }
        if members is not None:
            options["members"] = members
        try:
            if boot:
                results = train_members(settings, source, out, **options)
            else:
                results = [train(settings, source, out, **options)]
        except TrainingInterrupted as error:
            if is_first():
                complain(one_sentence(error))
            # The usual status after a signal, which perhaps another process got.
            raise typer.Exit(128 + (noted() or [signal.SIGTERM])[0]) from error
    for result in results if is_first() else ():
        for checkpoint in (*result.snapshots, result.checkpoint):
            say(f"saved to {checkpoint}")


def _settings(
    preset: str, base_model: BaseModel, given: dict[str, Any], assignments: list[str]
) -> Any:
    """The preset, with the given settings changed."""
    try:
        from grumo_jax.training.presets import preset as find_preset
        from grumo_jax.training.presets import with_base_model
        from grumo_jax.training.settings import parse_changes
    except ModuleNotFoundError as error:
        raise GrumoError(
            f"training needs {error.name}; pip install 'grumo-jax[data,train]'"
        ) from error
    changes: dict[str, Any] = {**given, **parse_changes(assignments)}
    return with_base_model(find_preset(preset), base_model.value).replace(changes)


def _render(data_dir: Path, split: str, *, alone: bool) -> None:
    """Render a split of the synthetic world, unless it exists."""
    from grumo_jax.data.prepared import find_prepared, prepare
    from grumo_jax.data.prepared.parts import locate

    if find_prepared("synthetic", data_dir, split) is not None:
        return
    config, _ = locate("synthetic", split)
    if not alone:
        raise GrumoError(
            f"{data_dir}: the synthetic world is not rendered yet, and that is the work of one "
            f"process; first give: grumo prepare synthetic --data-dir {data_dir} --split {config}"
        )
    with tqdm(desc=config, unit="frame", disable=not sys.stderr.isatty()) as bar:
        prepare(
            "synthetic",
            config,
            data_dir,
            data_dir / "prepared",
            start=bar.reset,
            advance=bar.update,
        )


def _open(settings: Any, data_dir: Path, split_files: Path | None, validate: bool) -> Any:
    """The sources for training and, if there is one, for validation."""
    from grumo_jax.data import open_source

    options: dict[str, Any] = {} if split_files is None else {"split_files": split_files}
    source = open_source(settings.dataset, data_dir, settings.train_split, **options)
    if not validate or settings.validation_split is None:
        return source, None
    return source, open_source(settings.dataset, data_dir, settings.validation_split, **options)
