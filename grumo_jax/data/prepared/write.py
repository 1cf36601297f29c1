"""Preparing: raw files to a few large ones, all of a data set or nothing."""

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from grumo_jax._internal.atomic_writes import noticing_disk_problems
from grumo_jax._internal.locks import lock_file
from grumo_jax.data.extras import need
from grumo_jax.data.prepared.description import open_builder, read_facts
from grumo_jax.data.prepared.parts import BUILDERS, PARTS, VERSION
from grumo_jax.errors import DataError

_PARTIAL, _REPLACED = ".partial", "replaced"
_FRAMES_PER_FILE = 1000
_FRAMES_AT_ONCE = 16


@dataclass(frozen=True)
class Outcome:
    """What `prepare` did.

    Attributes:
        folder: where the files lie.
        counts: {TFDS split: frames in it}.
        damaged: ids of frames that were left out, since they cannot be read.
        reused: nothing was to be done, since the data have not changed.
    """

    folder: Path
    counts: dict[str, int]
    damaged: tuple[str, ...]
    reused: bool


def prepare(
    dataset: str,
    config: str,
    data_dir: str | Path,
    out: str | Path,
    *,
    split_files: str | Path | None = None,
    overwrite: bool = False,
    report: Callable[[str], object] = lambda sentence: None,
    start: Callable[[int], object] = lambda total: None,
    advance: Callable[[], object] = lambda: None,
) -> Outcome:
    """Write one configuration's splits, so that they load fast and can be copied as a whole.

    The result appears at the very end: whoever is killed on the way leaves what was there before,
    and the same call starts again. If the data have not changed since, nothing is done.

    Args:
        dataset: "kitti", "nyu" or "synthetic".
        config: one of `PARTS[dataset]`: splits that are prepared together.
        data_dir: the original data; of "synthetic", which has none, it does not matter.
        out: folder for prepared data.
        split_files: folder with train_files.txt and val_files.txt, for `eigen_zhou`.
        overwrite: write anew even if the data have not changed.
        report: receives a sentence about each damaged frame, which is left out.
        start: receives the number of frames before the first one is read.
        advance: called after each frame.

    Raises:
        DataError: if nothing of it is there, all frames are damaged, or another process is
            writing to `out`.

    Example:
        >>> prepare("nyu", "val", "nyu", "prepared").counts
        {'val': 1}
    """
    if config not in PARTS.get(dataset, {}):
        known = ", ".join(PARTS.get(dataset, PARTS))
        raise DataError(f"nothing called {dataset}/{config} can be prepared; there are: {known}")
    need("array_record", "preparing data")
    need("tensorflow_datasets", "preparing data")
    from grumo_jax.data.prepared import builders

    make = builders.MAKERS[dataset]
    out = Path(out)
    with _only_one(out):
        partial, place = out / _PARTIAL, out / BUILDERS[dataset] / config / VERSION
        _clean_up(out)
        builder = make(config=config, data_dir=partial, file_format="array_record")
        builder.split_files, builder.report, builder.advance = split_files, report, advance
        sources = builder.open_sources(data_dir)
        current = {name: source.fingerprint for name, source in sources.items()}
        if not overwrite and (facts := _facts_if_current(place, current)):
            return _outcome(place, facts, reused=True)
        start(sum(len(source) for source in sources.values()))
        try:
            with noticing_disk_problems(out, DataError):
                _write(builder, sources)
            facts = builder.info.metadata["splits"]
            _move_into_place(Path(builder.data_dir), place, out)
        finally:
            _clean_up(out)
    return _outcome(place, facts, reused=False)


def _write(builder: Any, sources: dict[str, Any]) -> None:
    """Write split after split, in order, with no more than a few frames in memory."""
    tfds = need("tensorflow_datasets", "preparing data")
    Path(builder.data_dir).mkdir(parents=True)
    writer = tfds.core.SequentialWriter(
        builder.info, max_examples_per_shard=_FRAMES_PER_FILE, file_format="array_record"
    )
    written = 0
    for name, source in sources.items():
        examples = (example for _, example in builder._generate_examples(name, source))
        while chunk := list(islice(examples, _FRAMES_AT_ONCE)):
            writer.initialize_splits([name], fail_if_exists=False)
            writer.add_examples({name: chunk})
            written += len(chunk)
    if not written:
        raise DataError("every frame is damaged, so nothing was prepared; copy the data again")
    writer.close_all()


def _facts_if_current(place: Path, current: dict[str, str]) -> dict[str, Any] | None:
    """What was noted when this was prepared, if it was from these very data."""
    try:
        facts = read_facts(place)
        same = {name: fact["contents"] for name, fact in facts.items()} == current
        return facts if same and _files_are_whole(place, facts) else None
    except DataError:
        return None  # not there, or damaged: prepare anew


def _files_are_whole(place: Path, facts: dict[str, Any]) -> bool:
    splits = open_builder(place).info.splits
    return all(
        splits[name].num_examples == len(fact["ids"])
        and all(Path(file).is_file() for file in splits[name].filepaths)
        for name, fact in facts.items()
        if fact["ids"]
    )


def _outcome(place: Path, facts: dict[str, Any], *, reused: bool) -> Outcome:
    counts = {name: len(fact["ids"]) for name, fact in facts.items()}
    damaged: Iterable[str] = (key for fact in facts.values() for key in fact["damaged"])
    return Outcome(place, counts, tuple(damaged), reused)


def _move_into_place(built: Path, place: Path, out: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.exists():
        replaced = out / _PARTIAL / _REPLACED / place.relative_to(out)
        replaced.parent.mkdir(parents=True)
        place.rename(replaced)
    built.rename(place)


def _clean_up(out: Path) -> None:
    """Remove what is unfinished; put back what was moved away and has no successor yet."""
    aside = out / _PARTIAL / _REPLACED
    for replaced in aside.glob("*/*/*"):  # data set, configuration, version
        place = out / replaced.relative_to(aside)
        if not place.exists():
            replaced.rename(place)
    shutil.rmtree(out / _PARTIAL, ignore_errors=True)


@contextmanager
def _only_one(out: Path) -> Iterator[None]:
    """Keep a second process from removing what this one has not finished yet."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("a") as stream:
        if not lock_file(stream):
            raise DataError(f"{out}: another process is preparing data there; let it finish")
        yield
