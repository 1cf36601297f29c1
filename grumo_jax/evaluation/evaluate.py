"""Evaluate estimators on a data set: in batches, on all devices, to a file that survives."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from tqdm import tqdm

from grumo_jax.checkpoint import content_hash
from grumo_jax.data import Loaded, Problem, Source, load
from grumo_jax.errors import GrumoError
from grumo_jax.estimators import Estimate, Estimator, estimate_together
from grumo_jax.evaluation.measure import Measures, measure
from grumo_jax.evaluation.protocol import Protocol
from grumo_jax.evaluation.results import Results, ResultsWriter, Row, read_results
from grumo_jax.evaluation.rows import problem_row, to_row
from grumo_jax.evaluation.targets import Prepare, Prepared, batch_targets
from grumo_jax.naming import stable_name
from grumo_jax.network import DepthNetwork

Item = Loaded[Prepared] | Problem


def evaluate(
    estimators: Mapping[str, Estimator],
    variables: Any,
    source: Source,
    path: str | Path,
    *,
    protocol: Protocol,
    about: Mapping[str, Any] | None = None,
    size: tuple[int, int] | None = None,
    batch_size: int | None = None,
    devices: Sequence[jax.Device] | None = None,
    seed: int = 0,
    workers: int = 2,
    progress: bool = False,
) -> Results:
    """Evaluate estimators of one network on every image of a source.

    A row for each image is appended to the results file as soon as it is computed. A run that
    was killed, however it was, continues where it stopped, and the file ends up the same byte
    for byte: images always come in the same batches. A file of another configuration is refused.
    Memory does not grow with the size of the data set.

    Args:
        estimators: by the name they have in tables; they share their forward passes.
        variables: of the network.
        source: the images and their ground truth.
        path: the results file (JSON lines), made or continued.
        protocol: which pixels count, and how depth becomes metres.
        about: what else to note in the file, such as the checkpoint; a difference in it is a
            difference in configuration.
        size: (height, width) of the network's input; by default what the network was trained
            at, or what the protocol says.
        batch_size: images of all devices together, rounded up to a multiple of their number; by
            default 1 for each CPU and 8 for each accelerator.
        devices: to share the images between; all local ones by default.
        seed: of what estimators draw; all images get the same draw.
        workers: threads that read and resize ahead.
        progress: show a bar with rate and remaining time on standard error.

    Returns:
        The finished results.

    Raises:
        GrumoError: if there are no estimators or they are of different networks.
        ResultsError: if the file holds other results.
    """
    run = Run.of(
        estimators,
        variables,
        source,
        protocol,
        size=size,
        batch_size=batch_size,
        devices=devices,
        seed=seed,
    )
    return run.to_file(path, about or {}, workers=workers, progress=progress)


@dataclass(frozen=True)
class Run:
    """One evaluation with everything decided.

    Attributes:
        estimators: by name.
        variables: on all devices.
        source: the images.
        protocol: with its crop resolved.
        size: (height, width) of the network's input.
        batch_size: images of a batch.
        sharding: how a batch is shared between devices.
        seed: of what estimators draw.
    """

    estimators: dict[str, Estimator]
    variables: Any
    source: Source
    protocol: Protocol
    size: tuple[int, int]
    batch_size: int
    sharding: NamedSharding
    seed: int

    @classmethod
    def of(
        cls,
        estimators: Mapping[str, Estimator],
        variables: Any,
        source: Source,
        protocol: Protocol,
        *,
        size: tuple[int, int] | None = None,
        batch_size: int | None = None,
        devices: Sequence[jax.Device] | None = None,
        seed: int = 0,
    ) -> "Run":
        """Decide what was left open; see `evaluate`."""
        if not estimators:
            raise GrumoError("there is no estimator to evaluate; name at least one")
        devices = list(jax.local_devices() if devices is None else devices)
        if batch_size is None:
            batch_size = len(devices) * (1 if devices[0].platform == "cpu" else 8)
        batch_size = -(-batch_size // len(devices)) * len(devices)
        mesh = jax.make_mesh((len(devices),), ("data",), (AxisType.Auto,), devices=devices)
        network = _network(estimators)
        return cls(
            dict(estimators),
            jax.device_put(variables, NamedSharding(mesh, PartitionSpec())),
            source,
            protocol.for_source(source.crop),
            size or getattr(network.module, "input_size", None) or protocol.size,
            batch_size,
            NamedSharding(mesh, PartitionSpec("data")),
            seed,
        )

    def configuration(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """All that decides what the numbers are."""
        return {
            **about,
            "dataset": self.source.name,
            "fingerprint": self.source.fingerprint,
            "images": len(self.source),
            "missing": list(self.source.missing),
            "protocol": self.protocol.describe(),
            "size": list(self.size),
            "variables": content_hash({}, self.variables)[:16],
            "estimators": {name: describe(e) for name, e in self.estimators.items()},
            "seed": self.seed,
            "batch_size": self.batch_size,
            "devices": self.sharding.num_devices,
            "platform": self.sharding.mesh.devices.flat[0].platform,
            "jax": jax.__version__,
        }

    def to_file(
        self, path: str | Path, about: Mapping[str, Any], *, workers: int, progress: bool
    ) -> Results:
        """Evaluate what the results file does not hold yet."""
        with ResultsWriter(path, self.configuration(about)) as writer:
            # Batches are always the same ones: one that was not finished is computed again.
            start = writer.done // self.batch_size * self.batch_size
            if writer.done == len(self.source):
                start = writer.done
            items = load(self.source, self.prepare, workers=workers, start=start)
            bar = tqdm(total=len(self.source), initial=start, unit="image", disable=not progress)
            with bar:
                while batch := list(itertools.islice(items, self.batch_size)):
                    writer.append(self.rows(batch)[max(writer.done - start, 0) :])
                    start += len(batch)
                    bar.update(len(batch))
        return read_results(path)

    @property
    def network(self) -> DepthNetwork:
        """The network that all estimators are of."""
        return _network(self.estimators)

    @property
    def prepare(self) -> Prepare:
        """What makes of a sample what is batched."""
        return Prepare(self.protocol, self.size)

    def rows(self, batch: Sequence[Item]) -> list[Row]:
        """Evaluate a batch."""
        prepared = [item.value for item in batch if isinstance(item, Loaded)]
        measures: dict[str, Measures] = {}
        if prepared:
            measures = jax.device_get(self.measure(self.estimate(prepared), prepared))
        slots, rows = itertools.count(), []
        for item in batch:
            if isinstance(item, Problem):
                rows.append(problem_row(item.index, item.id, item.sentence))
            else:
                rows.append(to_row(item.index, item.id, item.value.size, measures, next(slots)))
        return rows

    def estimate(self, prepared: Sequence[Prepared]) -> dict[str, Estimate]:
        """Depth and uncertainty by estimator, of at most `batch_size` images."""
        images = self._share(np.stack([p.image for p in self._filled(prepared)]))
        key = jax.random.key(self.seed)
        return estimate_together(self.estimators, self.variables, images, key)

    def measure(
        self, estimates: Mapping[str, Estimate], prepared: Sequence[Prepared]
    ) -> dict[str, Measures]:
        """All measures of a batch by estimator."""
        _, height, width = next(iter(estimates.values())).depth.shape
        filled = self._filled(prepared)
        targets = self._share(batch_targets(filled, self.protocol, (height, width)))
        return {
            name: measure(self.network, e.depth, e.uncertainty, targets, self.protocol)
            for name, e in estimates.items()
        }

    def _filled(self, prepared: Sequence[Prepared]) -> list[Prepared]:
        """A full batch: another shape would be compiled anew, and not divide between devices."""
        return [*prepared, *[prepared[-1]] * (self.batch_size - len(prepared))]

    def _share(self, batch: Any) -> Any:
        return jax.device_put(batch, self.sharding)


def _network(estimators: Mapping[str, Estimator]) -> DepthNetwork:
    return next(iter(estimators.values())).network


def describe(estimator: Estimator) -> str:
    """An estimator's options in a line, without its model."""
    options = (
        f"{field.name}={stable_name(getattr(estimator, field.name))}"
        for field in dataclasses.fields(estimator)
        if field.name != "model"
    )
    return f"{type(estimator).__name__}({', '.join(options)})"
