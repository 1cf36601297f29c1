"""Evaluate estimators on a data set."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from grumo_jax._internal.stable_description import stable_description
from grumo_jax.data import Source
from grumo_jax.errors import GrumoError
from grumo_jax.estimators import Estimate, Estimator, estimate_together
from grumo_jax.evaluation.batches import Batches, Item
from grumo_jax.evaluation.definitions import definitions
from grumo_jax.evaluation.measure import Measures, measure
from grumo_jax.evaluation.protocol import Protocol
from grumo_jax.evaluation.results import Results, Row
from grumo_jax.evaluation.rows import to_row
from grumo_jax.evaluation.targets import Prepared
from grumo_jax.networks.checkpoint import content_hash
from grumo_jax.networks.network import DepthNetwork, Variables


def evaluate(
    estimators: Mapping[str, Estimator],
    variables: Variables,
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
        batch_size: images of all devices together, no more than there are, rounded up to a
            multiple of their number; by default 1 for each CPU and 8 for each accelerator.
        devices: to share the images between; all local ones by default.
        seed: of what estimators draw; all images get the same draw.
        workers: threads that read and resize ahead.
        progress: show a bar with rate and remaining time on standard error.

    Returns:
        The finished results.

    Raises:
        GrumoError: if there are no estimators or they are of different networks.
        ResultsError: if the file holds other results.

    Example:
        >>> from flax import linen as nn
        >>> import grumo_jax
        >>> from grumo_jax.data import ImageFolder
        >>> from grumo_jax.evaluation import named_protocol
        >>> network = nn.Sequential([lambda images: 1 + images.mean(axis=-1)])
        >>> results = evaluate(
        ...     {"post": grumo_jax.PostProcessing(network), "row": grumo_jax.RowBaseline(network)},
        ...     {},
        ...     ImageFolder("photos", "depth"),
        ...     "new.jsonl",
        ...     protocol=named_protocol("metric"),
        ...     size=(32, 64),
        ... )
        >>> results.finished
        True
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
        batches: the data set, and how it is gone through.
        seed: of what estimators draw.
    """

    estimators: dict[str, Estimator]
    variables: Variables
    batches: Batches
    seed: int

    @classmethod
    def of(
        cls,
        estimators: Mapping[str, Estimator],
        variables: Variables,
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
        network = next(iter(estimators.values())).network
        batches = Batches.of(
            network, source, protocol, size=size, batch_size=batch_size, devices=devices
        )
        return cls(dict(estimators), batches.on_all_devices(variables), batches, seed)

    def configuration(self, about: Mapping[str, Any]) -> dict[str, Any]:
        """All that decides what the numbers are."""
        return {
            **about,
            **self.batches.configuration(),
            "variables": content_hash({}, self.variables)[:16],
            "estimators": {name: describe(e) for name, e in self.estimators.items()},
            "definitions": definitions(self.estimators),
            "seed": self.seed,
        }

    def to_file(
        self, path: str | Path, about: Mapping[str, Any], *, workers: int, progress: bool
    ) -> Results:
        """Evaluate what the results file does not hold yet."""
        return self.batches.to_file(
            path, self.configuration(about), self.rows, workers=workers, progress=progress
        )

    @property
    def network(self) -> DepthNetwork:
        """The network that all estimators are of."""
        return next(iter(self.estimators.values())).network

    def rows(self, items: Sequence[Item]) -> list[Row]:
        """Evaluate the images of a batch."""
        prepared = [item.value for item in items]
        measures = jax.device_get(self.measure(self.estimate(prepared), prepared))
        return [
            to_row(item.index, item.id, item.value.size, measures, slot)
            for slot, item in enumerate(items)
        ]

    def estimate(self, prepared: Sequence[Prepared]) -> dict[str, Estimate]:
        """Depth and uncertainty by estimator, of at most a batch of images."""
        images, key = self.batches.images(prepared), jax.random.key(self.seed)
        return estimate_together(self.estimators, self.variables, images, key)

    def measure(
        self, estimates: Mapping[str, Estimate], prepared: Sequence[Prepared]
    ) -> dict[str, Measures]:
        """All measures of a batch by estimator."""
        _, height, width = next(iter(estimates.values())).depth.shape
        targets = self.batches.targets(prepared, (height, width))
        protocol = self.batches.protocol
        return {
            name: measure(self.network, e.depth, e.uncertainty, targets, protocol)
            for name, e in estimates.items()
        }


def describe(estimator: Estimator) -> str:
    """An estimator's options in a line, without its model."""
    options = (
        f"{field.name}={stable_description(getattr(estimator, field.name))}"
        for field in dataclasses.fields(estimator)
        if field.name != "model"
    )
    return f"{type(estimator).__name__}({', '.join(options)})"
