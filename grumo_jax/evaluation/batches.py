"""Go through a data set: in batches, on all devices, to a file that survives."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from tqdm import tqdm

from grumo_jax.data import Loaded, Problem, Source, load
from grumo_jax.evaluation.protocol import Protocol
from grumo_jax.evaluation.results import Results, ResultsWriter, Row, read_results
from grumo_jax.evaluation.rows import problem_row
from grumo_jax.evaluation.targets import Prepare, Prepared, Targets, batch_targets
from grumo_jax.network import DepthNetwork

Item = Loaded[Prepared]
ToRows = Callable[[Sequence[Item]], list[Row]]
"""Makes rows of at most `Batches.batch_size` images."""


@dataclass(frozen=True)
class Batches:
    """How a data set is gone through, with everything decided.

    Attributes:
        source: the images.
        protocol: with its crop resolved.
        size: (height, width) of the network's input.
        batch_size: images of a batch.
        sharding: how a batch is shared between devices.
    """

    source: Source
    protocol: Protocol
    size: tuple[int, int]
    batch_size: int
    sharding: NamedSharding

    @classmethod
    def of(
        cls,
        network: DepthNetwork,
        source: Source,
        protocol: Protocol,
        *,
        size: tuple[int, int] | None = None,
        batch_size: int | None = None,
        devices: Sequence[jax.Device] | None = None,
    ) -> "Batches":
        """Decide what was left open; see `evaluate`."""
        devices = list(jax.local_devices() if devices is None else devices)
        if batch_size is None:
            batch_size = len(devices) * (1 if devices[0].platform == "cpu" else 8)
        mesh = jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)
        return cls(
            source,
            protocol.for_source(source.crop),
            size or getattr(network.module, "input_size", None) or protocol.size,
            -(-batch_size // len(devices)) * len(devices),
            NamedSharding(mesh, PartitionSpec("data")),
        )

    def configuration(self) -> dict[str, Any]:
        """All that decides what the numbers are, but for what is computed."""
        return {
            "dataset": self.source.name,
            "fingerprint": self.source.fingerprint,
            "images": len(self.source),
            "missing": list(self.source.missing),
            "protocol": self.protocol.describe(),
            "size": list(self.size),
            "batch_size": self.batch_size,
            "devices": self.sharding.num_devices,
            "platform": self.sharding.mesh.devices.flat[0].platform,
            "jax": jax.__version__,
        }

    @property
    def prepare(self) -> Prepare:
        """What makes of a sample what is batched."""
        return Prepare(self.protocol, self.size)

    def on_all_devices(self, variables: Any) -> Any:
        """Copy a network's variables to every device."""
        return jax.device_put(variables, NamedSharding(self.sharding.mesh, PartitionSpec()))

    def images(self, prepared: Sequence[Prepared]) -> jax.Array:
        """The images of a full batch (B, h, w, 3), shared between the devices."""
        return self._share(np.stack([p.image for p in self._filled(prepared)]))

    def targets(self, prepared: Sequence[Prepared], size: tuple[int, int]) -> Targets:
        """Their ground truth, for maps (B, height, width) of this size."""
        return self._share(batch_targets(self._filled(prepared), self.protocol, size))

    def to_file(
        self,
        path: str | Path,
        configuration: Mapping[str, Any],
        to_rows: ToRows,
        *,
        workers: int,
        progress: bool,
    ) -> Results:
        """Make a row of every image that the results file does not hold yet."""
        with ResultsWriter(path, configuration) as writer:
            # Batches are always the same ones: one that was not finished is computed again.
            start = writer.done // self.batch_size * self.batch_size
            if writer.done == len(self.source):
                start = writer.done
            items = load(self.source, self.prepare, workers=workers, start=start)
            bar = tqdm(total=len(self.source), initial=start, unit="image", disable=not progress)
            with bar:
                while batch := list(itertools.islice(items, self.batch_size)):
                    rows = with_problems(batch, to_rows)
                    writer.append(rows[max(writer.done - start, 0) :])
                    start += len(batch)
                    bar.update(len(batch))
        return read_results(path)

    def _filled(self, prepared: Sequence[Prepared]) -> list[Prepared]:
        """A full batch: another shape would be compiled anew, and not divide between devices."""
        return [*prepared, *[prepared[-1]] * (self.batch_size - len(prepared))]

    def _share(self, batch: Any) -> Any:
        return jax.device_put(batch, self.sharding)


def with_problems(batch: Sequence[Item | Problem], to_rows: ToRows) -> list[Row]:
    """Rows of a batch, a sentence in place of what could not be read."""
    read = [item for item in batch if isinstance(item, Loaded)]
    rows = iter(to_rows(read) if read else [])
    return [
        problem_row(item.index, item.id, item.sentence) if isinstance(item, Problem) else next(rows)
        for item in batch
    ]
