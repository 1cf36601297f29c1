"""Base of all estimators: the call, its checks and its result."""

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax
from flax import struct
from jaxtyping import Array, Float

from grumo_jax._internal.checks import check_images
from grumo_jax.activations import apply_model
from grumo_jax.activations.traces import traced_anew
from grumo_jax.errors import GrumoError
from grumo_jax.estimators.draws import number
from grumo_jax.estimators.values import Values, check_key, check_values, summarize
from grumo_jax.estimators.views import Views, predict_views
from grumo_jax.networks.network import DepthNetwork, Model, Variables, as_network
from grumo_jax.references import ImageReference
from grumo_jax.scores import normalize


@struct.dataclass
class Estimate:
    """Depth and where it may be wrong, for each pixel of each image.

    Attributes:
        depth: (B, H, W), in the network's units.
        uncertainty: (B, H, W), higher where the depth is less certain; min-max normalised to
            [0, 1] per image (except by `PostProcessing`).
        raw: (B, H, W), the score before normalisation; only this can be compared across images.

    Example:
        >>> import jax
        >>> from flax import linen as nn
        >>> import grumo_jax
        >>> network = nn.Sequential([lambda images: 1 + images.mean(axis=-1)])
        >>> images = jax.random.uniform(jax.random.key(0), (2, 32, 64, 3))
        >>> estimate = grumo_jax.PostProcessing(network)({}, images)
        >>> estimate.depth.shape, estimate.uncertainty.shape
        ((2, 32, 64), (2, 32, 64))
    """

    depth: Float[Array, "batch height width"]
    uncertainty: Float[Array, "batch height width"]
    raw: Float[Array, "batch height width"]


@dataclass(frozen=True)
class Inputs:
    """The arguments of an estimator's call, and predictions that estimators share.

    Attributes:
        variables, images, key, ground_truth: see `Estimator.__call__`.
        views: predictions from augmented images, including those that the estimator's `views`
            name.

    Example:
        >>> import jax.numpy as jnp
        >>> inputs = Inputs({}, jnp.zeros((1, 32, 64, 3)), key=None, ground_truth=None, views={})
        >>> inputs.images.shape
        (1, 32, 64, 3)
    """

    variables: Variables
    images: jax.Array
    key: Any
    ground_truth: jax.Array | None
    views: Views


@dataclass(frozen=True)
class Estimator(abc.ABC):
    """Base of all estimators: a frozen, callable configuration.

    The call is compiled by `jax.jit`, which caches by configuration (by object identity if the
    model is not hashable). It can be used under `jax.jit`, `jax.vmap`, `jax.grad` and
    `jax.shard_map`, with inputs sharded over `AxisType.Auto` meshes. Each image's result is
    independent of its batch; random draws are broadcast over the batch axis.

    Attributes:
        model: a `Monodepth2`, another linen module or `nnx.GraphDef` whose output is depth, or
            `wrap` of one.
        definition: version of the class's numbers, recorded with results; a results file is not
            continued under another version. Raise it whenever the same options and inputs give
            other numbers (rounding aside), also if the cause is a reference, loss or reduction
            that the class calls.

    Example:
        >>> from dataclasses import dataclass
        >>> import jax.numpy as jnp
        >>> from flax import linen as nn
        >>> @dataclass(frozen=True)
        ... class Brightness(Estimator):
        ...     def estimate(self, inputs):
        ...         gray = inputs.images.mean(axis=-1)
        ...         output = self.model.apply(inputs.variables, inputs.images)
        ...         return Estimate(self.network.read_depth(output), uncertainty=gray, raw=gray)
        >>> network = nn.Sequential([lambda images: 1 + images.mean(axis=-1)])
        >>> Brightness(network)({}, jnp.full((1, 2, 2, 3), 0.5)).uncertainty
        Array([[[0.5, 0.5],
                [0.5, 0.5]]], dtype=float32)
    """

    model: Model
    definition: ClassVar[int] = 1

    @property
    def network(self) -> DepthNetwork:
        """The model as a `DepthNetwork`."""
        return as_network(self.model)

    @property
    def needs_key(self) -> bool:
        """Whether a call draws random numbers and needs a key."""
        return False

    @property
    def views(self) -> tuple[ImageReference, ...]:
        """References whose augmented images the estimate needs predictions from."""
        return ()

    @abc.abstractmethod
    def estimate(self, inputs: Inputs) -> Estimate:
        """Compute the estimate: the call without its checks and without `jax.jit`."""

    def __call__(
        self,
        variables: Variables,
        images: jax.Array,
        key: jax.Array | None = None,
        *,
        ground_truth: jax.Array | None = None,
    ) -> Estimate:
        """Estimate depth and uncertainty.

        Args:
            variables: the model's variables (for an `Ensemble`, stacked; for NNX, the state).
            images: (B, H, W, C) float in [0, 1], or a pytree of arrays if the network takes one;
                its leaves of four axes are images, and references augment each of them.
            key: PRNG key, such as `jax.random.key(0)`; required if `needs_key`.
            ground_truth: true depth (B, H, W) at the predicted depth's size, 0 where unknown; only
                for oracles, such as the reference `GroundTruth`.

        Raises:
            GrumoError: if images have a wrong shape or dtype, or the key is missing or not a key;
                unless values are traced, also if images are not finite or far outside [0, 1].

        Warns:
            GrumoWarning: unless values are traced, if much of the depth is not positive, any of it
                is not finite, or its aspect ratio is not that of the images.
        """
        return _checked_call((self,), variables, images, key, ground_truth)[0]


def estimate_together(
    estimators: Mapping[str, Estimator],
    variables: Variables,
    images: jax.Array,
    key: jax.Array | None = None,
    *,
    ground_truth: jax.Array | None = None,
) -> dict[str, Estimate]:
    """Call several estimators of one network with shared forward passes.

    The plain pass runs once, and so does the pass over each distinct augmented image.

    Args:
        estimators: {name: estimator}, all of one model. (An `Ensemble` takes stacked variables.)
        variables, images, key, ground_truth: see `Estimator.__call__`.

    Returns:
        {name: estimate}, each as from its estimator alone (up to rounding).

    Raises:
        GrumoError: if the estimators have different networks; see also `Estimator.__call__`.

    Example:
        >>> import jax.numpy as jnp
        >>> from flax import linen as nn
        >>> import grumo_jax
        >>> model = nn.Sequential([lambda images: 1 + images.mean(axis=-1)])
        >>> both = {"post": grumo_jax.PostProcessing(model), "row": grumo_jax.RowBaseline(model)}
        >>> list(grumo_jax.estimate_together(both, {}, jnp.zeros((1, 32, 64, 3))))
        ['post', 'row']
    """
    several = tuple(estimators.values())
    results = _checked_call(several, variables, images, key, ground_truth)
    return dict(zip(estimators, results, strict=True))


def _checked_call(
    estimators: tuple[Estimator, ...],
    variables: Variables,
    images: jax.Array,
    key: jax.Array | None,
    ground_truth: jax.Array | None,
) -> tuple[Any, ...]:
    check_call(estimators, images, key, ground_truth)
    static = tuple(_as_static(estimator) for estimator in estimators)
    results, found = _compiled(static, variables, images, key, ground_truth)
    check_values(found)
    return results


def check_call(
    estimators: Sequence[Estimator],
    images: jax.Array,
    key: jax.Array | None,
    ground_truth: jax.Array | None = None,
) -> None:
    """Raise a `GrumoError` unless the estimators can be called together with these arguments."""
    check_images(images)
    check_key(key)
    if ground_truth is not None and getattr(ground_truth, "ndim", 0) != 3:
        shape = getattr(ground_truth, "shape", None)
        found = f"is a {type(ground_truth).__name__}" if shape is None else f"has shape {shape}"
        raise GrumoError(
            f"ground_truth {found}; expected an array (batch, height, width), 0 where unknown"
        )
    for estimator in estimators:
        if estimator.network != estimators[0].network:
            raise GrumoError(
                "the estimators are of different networks; only those of one network can share "
                "its passes"
            )
        if estimator.needs_key and key is None:
            raise GrumoError(
                f"{type(estimator).__name__} draws random numbers: pass a key, such as "
                "jax.random.key(0)"
            )


class _ByIdentity:
    """Wraps an estimator that is not hashable; compares and hashes by identity."""

    def __init__(self, estimator: Estimator):
        self.estimator = estimator

    def __hash__(self) -> int:
        return id(self.estimator)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ByIdentity) and self.estimator is other.estimator


def _as_static(estimator: Estimator) -> Estimator | _ByIdentity:
    try:
        hash(estimator)
    except TypeError:
        # For example `nn.Sequential([…])`, whose list Flax keeps as a list.
        return _ByIdentity(estimator)
    return estimator


@partial(jax.jit, static_argnums=0)
def _compiled(
    static: tuple[Estimator | _ByIdentity, ...],
    variables: Variables,
    images: jax.Array,
    key: Any,
    ground_truth: jax.Array | None,
) -> tuple[tuple[Estimate, ...], Values]:
    estimators = [e.estimator if isinstance(e, _ByIdentity) else e for e in static]
    with traced_anew():  # on a cache hit of an inner jit, no module's mode would be checked
        views = shared_views(estimators, variables, images, key)
        inputs = Inputs(variables, images, key, ground_truth, views)
        estimates = tuple(estimator.estimate(inputs) for estimator in estimators)
    return estimates, summarize(images, estimates[0].depth)


def shared_views(
    estimators: Sequence[Estimator], variables: Variables, images: jax.Array, key: Any
) -> Views:
    """Predictions from the augmented images that any of the estimators needs, each made once."""
    # Numbered within each estimator. The plain pass needs no such care: XLA merges it (CSE).
    needed = dict.fromkeys(view for e in estimators for view in number(e.views))
    return predict_views(estimators[0].network, variables, images, list(needed), key)


def predict_depth(network: DepthNetwork, variables: Variables, images: jax.Array) -> jax.Array:
    """Plain depth (B, H, W)."""
    return network.read_depth(apply_model(network, variables, images))


def normalized_estimate(depth: jax.Array, raw: jax.Array) -> Estimate:
    """An estimate whose uncertainty is the raw score, min-max normalised per image."""
    return Estimate(depth, normalize(raw), raw)
