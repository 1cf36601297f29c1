"""Prefetching data loading on grain: samples in a fixed order, read by threads or processes."""

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
        index: its index in the source.
        id: its id.
        value: what the function given to `load` returned for it.

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
        index: its index in the source.
        id: its id.
        sentence: the error message; it names the file or the sample's id.

    Example:
        >>> Problem(1, "b", "b.png: damaged or no image").sentence
        'b.png: damaged or no image'
    """

    index: int
    id: str
    sentence: str


@dataclass(frozen=True)
class _Read(Generic[T]):
    """Maps an index to a sample or problem; a class, so that workers can unpickle it."""

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
            # Errors of a source name the file; those of `transform` may not name the sample.
            sentence = str(error)
            return Problem(index, key, sentence if key in sentence else f"{key}: {sentence}")


@dataclass(frozen=True)
class _Turns:
    """Maps an index in a shard to one in the whole; a class, so that workers can unpickle it."""

    shard: tuple[int, int]
    block: int

    def __call__(self, place: int) -> int:
        index, count = self.shard
        turn, offset = divmod(place, self.block)
        return (turn * count + index) * self.block + offset

    def number(self, total: int) -> int:
        """Length of the shard of `total` samples."""
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
    """Iterate over a source's samples in a fixed order, prefetched by workers.

    The order depends on `shuffle_seed` and `shard` only, not on the number of workers. A sample
    that cannot be read is yielded as a `Problem`; the iteration goes on.

    Args:
        source: the samples.
        transform: function of a `Sample`, such as one that resizes the image. It runs in the
            workers, so costly steps belong here. It must be stateless, and with `processes`
            picklable. A `DataError` that it raises becomes a `Problem`.
        workers: number of threads (or processes) that prefetch; 0 reads on demand.
        processes: use processes instead of threads. Decoding and resizing release the GIL, so
            threads are usually as fast, and they start at once.
        shuffle_seed: 0 … 2³² − 1: shuffle with this seed, differently in each epoch; None keeps
            the source's order.
        shard: (i, n) yields every n-th sample of the shuffled order from the i-th on, so that n
            processes share the work: `(jax.process_index(), jax.process_count())`. Lengths of
            shards differ by at most one. With `repeat`, the endless order is sharded.
        block: shard by blocks of this many consecutive samples, such as a process's part of a
            batch; lengths then differ by at most one block.
        start: resume: skip this many samples of the shard without reading them. With `repeat` it
            may reach into later epochs.
        repeat: start over after the last sample, for ever.

    Yields:
        `Loaded` or `Problem`, each with index and id.

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
        # If the caller stops early, the threads must stop, too.
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
