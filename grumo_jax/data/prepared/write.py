"""`prepare`: pack raw files into a few large ones, atomically."""

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
    """The result of `prepare`.

    Attributes:
        folder: folder of the written files.
        counts: {TFDS split: number of frames}.
        damaged: ids of frames that were left out because they cannot be read.
        reused: True if nothing was written, because the data have not changed.
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
    """Pack one configuration's splits into a few large files that load fast and copy easily.

    The result is renamed into place at the end. A killed call leaves the previous result
    unchanged, and starts over when it is repeated. If the data have not changed, nothing is done.

    Args:
        dataset: "kitti", "nyu" or "synthetic".
        config: key of `PARTS[dataset]`: splits that are prepared together.
        data_dir: folder of the original data; ignored for "synthetic", which is rendered.
        out: folder for prepared data.
        split_files: folder with train_files.txt and val_files.txt, for `eigen_zhou`.
        overwrite: write even if the data have not changed.
        report: called with the error message of each damaged frame, which is left out.
        start: called with the number of frames before the first one is read.
        advance: called after each frame.

    Returns:
        Where the files are, and what was written.

    Raises:
        DataError: if no file of it is found, all frames are damaged, or another process is
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
    """Write one split after another, with only a few frames in memory."""
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
    """The record of an earlier preparation, if it is complete and of the same data."""
    try:
        facts = read_facts(place)
        same = {name: fact["contents"] for name, fact in facts.items()} == current
        return facts if same and _files_are_whole(place, facts) else None
    except DataError:
        return None  # Missing or damaged: prepare again.


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
    """Remove unfinished files; restore a replaced result whose successor was not renamed yet."""
    aside = out / _PARTIAL / _REPLACED
    for replaced in aside.glob("*/*/*"):  # data set, configuration, version
        place = out / replaced.relative_to(aside)
        if not place.exists():
            replaced.rename(place)
    shutil.rmtree(out / _PARTIAL, ignore_errors=True)


@contextmanager
def _only_one(out: Path) -> Iterator[None]:
    """Lock `out`, so that a second process does not remove unfinished files of this one."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("a") as stream:
        if not lock_file(stream):
            raise DataError(f"{out}: another process is preparing data there; let it finish")
        yield
