"""Ablate the settings of Grad over a data set; interrupted runs continue."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Unpack

import jax
import jax.numpy as jnp
import numpy as np

from grumo_jax._internal.hashing import content_hash
from grumo_jax._internal.stable_description import stable_description
from grumo_jax.ablation.grid import Grid
from grumo_jax.ablation.sweep import ablate_settings
from grumo_jax.data import Source
from grumo_jax.errors import GrumoError
from grumo_jax.estimators import GradientUncertainty
from grumo_jax.estimators.views import depth_form
from grumo_jax.evaluation.batches import Batches, LoadedImage, RunOptions
from grumo_jax.evaluation.definitions import definitions
from grumo_jax.evaluation.measure import measure_uncertainty
from grumo_jax.evaluation.protocol import Protocol
from grumo_jax.evaluation.results import Results, Row
from grumo_jax.evaluation.rows import plain
from grumo_jax.evaluation.targets import Targets
from grumo_jax.networks.network import DepthNetwork, Model, Variables, as_network
from grumo_jax.references import GroundTruth

AREAS = ("ause", "aurg")


def ablate(
    grid: Grid,
    model: Model,
    variables: Variables,
    source: Source,
    path: str | Path,
    *,
    protocol: Protocol,
    **options: Unpack[RunOptions],
) -> Results:
    """Measure AUSE and AURG of every setting of a grid on every image of a source.

    All settings of an image are computed together (`ablate_settings`), and only these numbers
    leave the device. Rows are written to a results file like those of `evaluate`: an interrupted
    run continues, and a file of another configuration is refused. In a row, "ause" and "aurg" are
    {metric: nested lists along the grid's axes (signals, sites, reductions)}, with null for a map
    that is not finite.

    Args:
        grid: the settings, for example from `Grid.of`.
        model, variables: the network and its variables.
        source, path, protocol, options: see `evaluate`.

    Returns:
        The finished results, which `grumo_jax.report.summarize_ablation` summarises.

    Raises:
        GrumoError: if the grid does not fit the network, or has the reference `GroundTruth`.
        ResultsError: if the file holds other results.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import linen as nn
        >>> from grumo_jax.ablation import Grid
        >>> from grumo_jax.data import ImageFolder
        >>> from grumo_jax.evaluation import named_protocol
        >>> from grumo_jax.references import Flip
        >>> network = nn.Sequential([nn.Conv(4, (3, 3)), nn.Conv(1, (3, 3)), nn.softplus])
        >>> images = jnp.zeros((1, 32, 64, 3))
        >>> variables = network.init(jax.random.key(0), images)
        >>> options = {"losses": ["squared"], "references": {"flip": Flip()}}
        >>> grid = Grid.of(network, variables, images, layers=["layers_0"], **options)
        >>> source, protocol = ImageFolder("photos", "depth"), named_protocol("metric")
        >>> results = ablate(
        ...     grid, network, variables, source, "new.jsonl", protocol=protocol, size=(32, 64)
        ... )
        >>> results.finished
        True
    """
    network = as_network(model)
    batches = Batches.of(network, source, protocol, **options)
    run = _Run(grid, network, batches.on_all_devices(variables), batches)
    run.check()
    return batches.to_file(path, run.configuration(), run.rows)


@dataclass(frozen=True)
class _Run:
    """One ablation; see `evaluation.evaluate.Run`."""

    grid: Grid
    network: DepthNetwork
    variables: Variables
    batches: Batches

    def configuration(self) -> dict[str, Any]:
        """Everything that the numbers depend on."""
        return {
            **self.batches.configuration(),
            "variables": content_hash({}, self.variables)[:16],
            "signals": {signal.name: stable_description(signal) for signal in self.grid.signals},
            "sites": {site.name: stable_description(site) for site in self.grid.sites},
            "reductions": list(self.grid.reductions),
            "definitions": definitions({"grad": GradientUncertainty}),
            "seed": self.batches.seed,
        }

    def check(self) -> None:
        """Check that the grid fits the network, before a file is created."""
        if any(GroundTruth() in signal.references for signal in self.grid.signals):
            raise GrumoError(
                "the reference GroundTruth cannot be ablated over a data set; for images at hand "
                "call ablate_settings(…, ground_truth=depth)"
            )
        images = jax.ShapeDtypeStruct((1, *self.batches.size, 3), jnp.float32)
        self.grid.check(self.network, self.variables, images)

    def rows(self, items: Sequence[LoadedImage]) -> list[Row]:
        """Measure the images of a batch."""
        prepared = [item.value for item in items]
        images = self.batches.images(prepared)
        depth = depth_form(self.network, self.variables, images)
        targets = self.batches.targets(prepared, depth.shape[1:])
        found = jax.device_get(self._measure(self.variables, images, targets))
        return [
            {
                "index": item.index,
                "id": item.id,
                "size": list(item.value.size),
                "pixels": int(found["pixels"][0, 0, 0, slot]),
                # Depth is the same in all settings; for uncertainty the maximum is recorded.
                "no_depth": int(found["no_depth"][0, 0, 0, slot]),
                "no_uncertainty": int(found["no_uncertainty"][..., slot].max()),
                **{area: _at(found[area], slot) for area in AREAS},
            }
            for slot, item in enumerate(items)
        ]

    @cached_property
    def _measure(self) -> Any:
        """(variables, images, targets) → measures (signals, sites, reductions, B), compiled."""

        @jax.jit
        def measure(variables: Variables, images: jax.Array, targets: Targets) -> Any:
            return ablate_settings(
                self.grid,
                self.network,
                variables,
                images,
                partial(_measure_one, self.network, targets, self.batches.protocol),
                jax.random.key(self.batches.seed),
            )

        return measure


def _measure_one(
    network: DepthNetwork,
    targets: Targets,
    protocol: Protocol,
    depth: jax.Array,
    uncertainty: jax.Array,
) -> dict[str, Any]:
    """Numbers of each image under one setting: {name: (B,)}, areas by metric."""
    found, finite = measure_uncertainty(network, depth, targets, protocol, uncertainty)
    areas = {"ause": found.ause, "aurg": found.aurg}
    return {
        "pixels": found.pixels,
        "no_depth": found.no_depth,
        "no_uncertainty": jnp.where(finite, found.no_uncertainty, 0),
        **jax.tree.map(lambda values: jnp.where(finite, values, jnp.nan), areas),
    }


def _at(areas: Mapping[str, np.ndarray], slot: int) -> dict[str, Any]:
    """One image's areas as nested lists."""
    return {metric: _nested(values[..., slot]) for metric, values in areas.items()}


def _nested(values: np.ndarray) -> Any:
    if values.ndim:
        return [_nested(value) for value in values]
    return plain(values) if np.isfinite(values) else None
