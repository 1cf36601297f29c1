"""Samples in order, read ahead by threads or processes, on top of grain."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from grumo_jax.data.extras import need
from grumo_jax.data.sample import Sample, Source
from grumo_jax.errors import DataError, ImageError

T = TypeVar("T")
_AHEAD_PER_WORKER = 4


@dataclass(frozen=True)
class Loaded(Generic[T]):
    """A sample that was read.

    Attributes:
        index: its place in the source.
        id: its id.
        value: what the function given to `load` made of it.

    Example:
        >>> from grumo_jax.data import ImageFolder
        >>> item = next(iter(load(ImageFolder("photos"), lambda sample: sample.image.shape)))
        >>> item.index, item.id, item.value
        (0, 'a', (40, 72, 3))
    """

    index: int
    id: str
    value: T


@dataclass(frozen=True)
class Problem:
    """A sample that could not be read.

    Attributes:
        index: its place in the source.
        id: its id.
        sentence: what is wrong, with the file's name or the sample's id.

    Example:
        >>> Problem(1, "b", "b.png: damaged or no image").sentence
        'b.png: damaged or no image'
    """

    index: int
    id: str
    sentence: str


@dataclass(frozen=True)
class _Read(Generic[T]):
    """Index → sample or problem; a class, because worker processes must receive it."""

    source: Source
    transform: Callable[[Sample], T]

    def __call__(self, index: int) -> Loaded[T] | Problem:
        key = self.source.ids[index]
        try:
            sample = self.source[index]
        except (DataError, ImageError) as error:
            return Problem(index, key, str(error))
        try:
            return Loaded(index, key, self.transform(sample))
        except (DataError, ImageError) as error:
            # A source names its file; `transform` may not know which sample it works on.
            sentence = str(error)
            return Problem(index, key, sentence if key in sentence else f"{key}: {sentence}")


@dataclass(frozen=True)
class _Turns:
    """Place in a shard → place in the whole; a class, because worker processes must receive it."""

    shard: tuple[int, int]
    block: int

    def __call__(self, place: int) -> int:
        index, count = self.shard
        turn, offset = divmod(place, self.block)
        return (turn * count + index) * self.block + offset

    def number(self, total: int) -> int:
        """How many of all are in the shard."""
        index, count = self.shard
        turns, rest = divmod(total, count * self.block)
        return turns * self.block + min(max(rest - index * self.block, 0), self.block)


def _as_is(sample: Sample) -> Any:
    return sample


def load(
    source: Source,
    transform: Callable[[Sample], T] = _as_is,
    *,
    workers: int = 2,
    processes: bool = False,
    shuffle_seed: int | None = None,
    shard: tuple[int, int] = (0, 1),
    block: int = 1,
    start: int = 0,
    repeat: bool = False,
) -> Iterator[Loaded[T] | Problem]:
    """Read a source's samples in a fixed order, ahead of their use.

    The order depends on `shuffle_seed` and `shard` only, not on the number of workers. A sample
    that cannot be read comes as a `Problem` in its place and does not end the iteration.

    Args:
        source: what to read.
        transform: makes of a `Sample` what is wanted, such as a resized picture; runs in the
            workers, so the costly steps belong here. It must not keep state, and with
            `processes` it must be a function of a module. A `DataError` it raises is a `Problem`.
        workers: threads (or processes) that read ahead; 0 reads when asked.
        processes: use processes. Decoding and resizing run outside Python's lock, so threads
            are usually as good, and they start at once.
        shuffle_seed: 0 … 2³² − 1: shuffle by this seed, differently in each epoch; None keeps
            the source's order.
        shard: (i, n) reads every n-th sample from the i-th on, of the shuffled order, so that n
            processes share the work: `(jax.process_index(), jax.process_count())`. Shards differ
            in length by at most one. With `repeat`, the endless order is dealt out.
        block: deal out so many samples at a time, such as a process's part of a batch; shards
            then differ in length by at most that.
        start: skip this many of the shard's samples without reading them, to resume; it may lie
            in a later epoch where `repeat` is set.
        repeat: begin again at the end, for ever.

    Yields:
        `Loaded` or `Problem`, both with index and id.

    Raises:
        DataError: if an option is out of range, or grain is not installed.

    Example:
        >>> from pathlib import Path
        >>> import grumo_jax
        >>> from grumo_jax.data import ImageFolder
        >>> photos = ImageFolder(Path(grumo_jax.__file__).parent / "photos")
        >>> [item.index for item in load(photos, lambda sample: sample.image.shape)]
        [0, 1]
    """
    _check_options(workers, shuffle_seed, shard, block, start)
    grain = need("grain", "loading data")
    order = grain.MapDataset.range(len(source))
    if shuffle_seed is not None:
        order = order.shuffle(shuffle_seed)
    if repeat and len(source):
        order = order.repeat()
    turns = _Turns(shard, block)
    places = grain.MapDataset.range(start, max(turns.number(len(order)), start))
    if len(places) == 0:
        return iter(())
    samples = places.map(turns).map(order.__getitem__).map(_Read(source, transform))
    return _iterate(grain, samples, workers, processes)


def _iterate(grain: Any, dataset: Any, workers: int, processes: bool) -> Iterator[Any]:
    threads = 0 if processes else workers
    options = grain.ReadOptions(
        num_threads=threads, prefetch_buffer_size=_AHEAD_PER_WORKER * threads
    )
    reading = dataset.to_iter_dataset(options)
    if processes and workers:
        # Grain asks absl for its options, which fails in programs that do not use absl.
        flags = need("absl.flags", "loading by processes").FLAGS
        if not flags.is_parsed():
            flags.mark_as_parsed()
        reading = reading.mp_prefetch(
            grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
        )
    iterator = iter(reading)
    try:
        yield from iterator
    finally:
        # Whoever stops early must not leave threads behind that go on reading.
        iterator.close()


def _check_options(
    workers: int, shuffle_seed: int | None, shard: tuple[int, int], block: int, start: int
) -> None:
    if workers < 0 or start < 0:
        raise DataError(f"workers is {workers} and start {start}; expected 0 or more")
    if block < 1:
        raise DataError(f"block is {block}; expected 1 or more")
    if shuffle_seed is not None and not 0 <= shuffle_seed < 2**32:
        raise DataError(f"shuffle_seed is {shuffle_seed}; expected 0 to 4294967295, or None")
    index, count = shard
    if not 0 <= index < count:
        raise DataError(f"shard is {shard}; expected (i, n) with 0 ≤ i < n")
