"""Evaluate estimators on a data set."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Unpack

import jax

from grumo_jax._internal.hashing import content_hash
from grumo_jax._internal.stable_description import stable_description
from grumo_jax.data import Source
from grumo_jax.errors import GrumoError
from grumo_jax.estimators import Estimate, Estimator, estimate_together
from grumo_jax.evaluation.batches import Batches, LoadedImage, RunOptions
from grumo_jax.evaluation.definitions import definitions
from grumo_jax.evaluation.measure import Measures, measure
from grumo_jax.evaluation.protocol import Protocol
from grumo_jax.evaluation.results import Results, Row
from grumo_jax.evaluation.rows import to_row
from grumo_jax.evaluation.targets import Prepared
from grumo_jax.networks.network import DepthNetwork, Variables


def evaluate(
    estimators: Mapping[str, Estimator],
    variables: Variables,
    source: Source,
    path: str | Path,
    *,
    protocol: Protocol,
    **options: Unpack[RunOptions],
) -> Results:
    """Evaluate estimators of one network on every image of a source.

    A row per image is appended to the results file as soon as it is computed. A killed run
    continues where it stopped, and the file ends up the same byte for byte: batches are always the
    same. A file of another configuration is refused. Memory does not grow with the data set.

    Args:
        estimators: {name in tables: estimator}; they share their forward passes.
        variables: of the network.
        source: the images and their ground truth.
        path: the results file (JSON lines), created or continued.
        protocol: which pixels count, and how depth becomes metres.
        options: keywords of `RunOptions`, such as size, batch_size, seed, progress.

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
    return Run.of(estimators, variables, source, protocol, **options).to_file(path)


@dataclass(frozen=True)
class Run:
    """An evaluation with all defaults resolved.

    Attributes:
        estimators: by name.
        variables: on all devices.
        batches: the run over the data set.
    """

    estimators: dict[str, Estimator]
    variables: Variables
    batches: Batches

    @classmethod
    def of(
        cls,
        estimators: Mapping[str, Estimator],
        variables: Variables,
        source: Source,
        protocol: Protocol,
        **options: Unpack[RunOptions],
    ) -> "Run":
        """Resolve the defaults; see `evaluate`."""
        if not estimators:
            raise GrumoError("there is no estimator to evaluate; name at least one")
        network = next(iter(estimators.values())).network
        batches = Batches.of(network, source, protocol, **options)
        return cls(dict(estimators), batches.on_all_devices(variables), batches)

    def configuration(self) -> dict[str, Any]:
        """Everything the numbers depend on."""
        return {
            **self.batches.configuration(),
            "variables": content_hash({}, self.variables)[:16],
            "estimators": {name: describe(e) for name, e in self.estimators.items()},
            "definitions": definitions(self.estimators),
            "seed": self.batches.seed,
        }

    def to_file(self, path: str | Path) -> Results:
        """Evaluate the images that the results file does not hold yet."""
        return self.batches.to_file(path, self.configuration(), self.rows)

    @property
    def network(self) -> DepthNetwork:
        """The network of all estimators."""
        return next(iter(self.estimators.values())).network

    def rows(self, items: Sequence[LoadedImage]) -> list[Row]:
        """Evaluate the images of a batch."""
        prepared = [item.value for item in items]
        measures = jax.device_get(self.measure(self.estimate(prepared), prepared))
        return [
            to_row(item.index, item.id, item.value.size, measures, slot)
            for slot, item in enumerate(items)
        ]

    def estimate(self, prepared: Sequence[Prepared]) -> dict[str, Estimate]:
        """Depth and uncertainty by estimator, for at most a batch of images."""
        images, key = self.batches.images(prepared), jax.random.key(self.batches.seed)
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
