"""Run over a data set in batches, on all devices of all hosts, and append rows to a file."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import jax
import numpy as np
from jax.sharding import NamedSharding
from tqdm import tqdm

from grumo_jax._internal.hosts import check_same, exchange, interleave, is_first
from grumo_jax._internal.meshes import mesh_of, replicated, shared
from grumo_jax.data import Loaded, Problem, Source, load
from grumo_jax.errors import GrumoError
from grumo_jax.evaluation.measure import predicts_disparity
from grumo_jax.evaluation.protocol import Protocol
from grumo_jax.evaluation.results import Results, ResultsWriter, Row, read_results
from grumo_jax.evaluation.rows import problem_row
from grumo_jax.evaluation.targets import Prepare, Prepared, Targets, batch_targets
from grumo_jax.networks.network import DepthNetwork, Variables
from grumo_jax.version import __version__

LoadedImage = Loaded[Prepared]
ToRows = Callable[[Sequence[LoadedImage]], list[Row]]
"""Computes the rows of at most `Batches.batch_size` images."""


class RunOptions(TypedDict, total=False):
    """Optional settings of a run over a data set: keywords of `evaluate` and `ablate`.

    Attributes:
        about: further entries of the recorded configuration, such as the checkpoint.
        size: (height, width) of the network's input; by default the size it was trained at, else
            the protocol's.
        batch_size: images of a batch on all devices together, at most all there are, rounded up to
            a multiple of the number of devices; by default 1 per CPU and 8 per accelerator.
        devices: the batch axis is sharded over them; all local ones by default.
        seed: of random draws, 0 by default; all images get the same draw.
        workers: threads that read and resize ahead, 2 by default.
        progress: show a bar with rate and remaining time on standard error.

    Example:
        >>> quick: RunOptions = {"size": (96, 320), "batch_size": 1}
        >>> sorted(quick)
        ['batch_size', 'size']
    """

    about: Mapping[str, Any] | None
    size: tuple[int, int] | None
    batch_size: int | None
    devices: Sequence[jax.Device] | None
    seed: int
    workers: int
    progress: bool


@dataclass(frozen=True)
class Batches:
    """A run over a data set, with all defaults resolved.

    With several processes (`grumo_jax._internal.hosts`), the images of a batch are dealt out to
    them in turn, and each process shards its own over its devices. The first process writes.

    Attributes:
        source: the images.
        protocol: with its crop resolved.
        size: (height, width) of the network's input.
        batch_size: images of a batch, of all processes together.
        sharding: of a process's part of a batch over its devices.
        about, seed, workers, progress: see `RunOptions`.
    """

    source: Source
    protocol: Protocol
    size: tuple[int, int]
    batch_size: int
    sharding: NamedSharding
    about: Mapping[str, Any]
    seed: int
    workers: int
    progress: bool

    @classmethod
    def of(
        cls,
        network: DepthNetwork,
        source: Source,
        protocol: Protocol,
        *,
        about: Mapping[str, Any] | None = None,
        size: tuple[int, int] | None = None,
        batch_size: int | None = None,
        devices: Sequence[jax.Device] | None = None,
        seed: int = 0,
        workers: int = 2,
        progress: bool = False,
    ) -> "Batches":
        """Resolve the defaults; see `RunOptions`.

        Raises:
            GrumoError: for a batch of no images, no devices, or a protocol that does not fit the
                network.
        """
        devices = list(jax.local_devices() if devices is None else devices)
        if not devices:
            raise GrumoError("devices is empty; name at least one, or leave it out for all")
        if batch_size is not None and batch_size < 1:
            raise GrumoError(f"batch_size is {batch_size}; it must be 1 or more")
        predicts_disparity(network, protocol)
        everywhere = len(devices) * jax.process_count()
        if batch_size is None:
            batch_size = everywhere * (1 if devices[0].platform == "cpu" else 8)
        # A larger batch would only be padded.
        batch_size = min(batch_size, max(len(source), 1))
        return cls(
            source,
            protocol.for_source(source.crop),
            size or network.input_size or protocol.size,
            -(-batch_size // everywhere) * everywhere,
            shared(mesh_of(devices)),
            about or {},
            seed,
            workers,
            progress,
        )

    def configuration(self) -> dict[str, Any]:
        """Everything the numbers depend on, except what is computed and its seed."""
        return {
            **self.about,
            "dataset": self.source.name,
            "fingerprint": self.source.fingerprint,
            "images": len(self.source),
            "missing": list(self.source.missing),
            "protocol": self.protocol.describe(),
            "size": list(self.size),
            "batch_size": self.batch_size,
            "devices": self.sharding.num_devices * jax.process_count(),
            "platform": self.sharding.mesh.devices.flat[0].platform,
            "jax": jax.__version__,
            "grumo_jax": __version__,
        }

    @property
    def prepare(self) -> Prepare:
        """Maps a sample to what is batched."""
        return Prepare(self.protocol, self.size)

    def on_all_devices(self, variables: Variables) -> Any:
        """Copy a network's variables to every device."""
        return jax.device_put(variables, replicated(self.sharding.mesh))

    def images(self, prepared: Sequence[Prepared]) -> jax.Array:
        """The images of a process's full batch (B, h, w, 3), sharded over its devices."""
        return self._share(np.stack([p.image for p in self._filled(prepared)]))

    def targets(self, prepared: Sequence[Prepared], size: tuple[int, int]) -> Targets:
        """The ground truth of the same batch, for maps (B, height, width) of this size."""
        return self._share(batch_targets(self._filled(prepared), self.protocol, size))

    def to_file(
        self, path: str | Path, configuration: Mapping[str, Any], to_rows: ToRows
    ) -> Results:
        """Append a row for every image that the results file does not hold yet.

        Raises:
            ResultsError: if the file holds other results.
            GrumoError: if another process was given another run.
            HostLostError: if another process has ended.
        """
        check_same(configuration)
        with _writer(path, configuration, self.source.ids) as writer:
            done = exchange(writer.done if writer else 0)[0]
            # Batch boundaries never change: an unfinished batch is computed again.
            start = len(self.source) if done == len(self.source) else self._batch_of(done)
            place = jax.process_index(), jax.process_count()
            mine = start // place[1]
            items = load(self.source, self.prepare, workers=self.workers, shard=place, start=mine)
            bar = tqdm(
                total=len(self.source),
                initial=start,
                unit="image",
                disable=not (self.progress and writer),
            )
            with bar:
                for first in range(start, len(self.source), self.batch_size):
                    batch = list(itertools.islice(items, self.batch_size // place[1]))
                    rows = interleave(exchange(with_problems(batch, to_rows)))
                    if writer:
                        writer.append(rows[max(writer.done - first, 0) :])
                    bar.update(len(rows))
        return read_results(path) if writer else Results(Path(path), dict(configuration))

    def _batch_of(self, image: int) -> int:
        """The first image of the batch that an image is in."""
        return image // self.batch_size * self.batch_size

    def _filled(self, prepared: Sequence[Prepared]) -> list[Prepared]:
        """Pad to a full batch: another shape would retrace, and might not shard evenly."""
        size = self.batch_size // jax.process_count()
        return [*prepared, *[prepared[-1]] * (size - len(prepared))]

    def _share(self, batch: Any) -> Any:
        return jax.device_put(batch, self.sharding)


def _writer(
    path: str | Path, configuration: Mapping[str, Any], ids: Sequence[str]
) -> AbstractContextManager[ResultsWriter | None]:
    """The results file in the first process; None in the others."""
    return ResultsWriter(path, configuration, ids=ids) if is_first() else nullcontext()


def with_problems(batch: Sequence[LoadedImage | Problem], to_rows: ToRows) -> list[Row]:
    """Rows of a batch; samples that could not be read get a problem's row."""
    read = [item for item in batch if isinstance(item, Loaded)]
    rows = iter(to_rows(read) if read else [])
    return [
        problem_row(item.index, item.id, item.sentence) if isinstance(item, Problem) else next(rows)
        for item in batch
    ]
