"""Which locations of an activation matter: replace each, and measure the effect."""

import dataclasses
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from grumo_jax._internal.precision import widen
from grumo_jax._internal.vmap_or_loop import map_chunks
from grumo_jax.ablation.memory import MEMORY, elements_within
from grumo_jax.activations import capture_activations, choose_layers
from grumo_jax.activations.calls import Call, check_editable
from grumo_jax.activations.names import find_layers
from grumo_jax.errors import GrumoError
from grumo_jax.estimators import (
    ConstantBaseline,
    Ensemble,
    Estimate,
    Estimator,
    GradientUncertainty,
    InferenceDropout,
    Inputs,
)
from grumo_jax.estimators.base import check_call, shared_views
from grumo_jax.estimators.draws import reference_key
from grumo_jax.estimators.views import augment
from grumo_jax.metrics import depth_errors
from grumo_jax.metrics.masked import is_depth, median_ratio
from grumo_jax.networks.layouts import Layout, as_edit, find_layout
from grumo_jax.networks.network import DepthNetwork, Variables
from grumo_jax.references import Flip, ImageReference

Replacement = Literal["zero", "mean", "noise", "reference"]
Effect = Callable[[Estimate, Estimate], Any]
"""(estimate with the edit, plain estimate) → a pytree of arrays."""


def ablate_locations(
    estimator: Any,
    variables: Variables,
    images: jax.Array,
    layer: str | int,
    effect: Effect,
    key: jax.Array | None = None,
    *,
    replace: Replacement | Callable[[jax.Array], jax.Array] = "zero",
    patch: int | tuple[int, int] = 1,
    stride: int | tuple[int, int] | None = None,
    reference: ImageReference | None = None,
    ground_truth: jax.Array | None = None,
    memory: int = MEMORY,
) -> Any:
    """Replace an activation patch by patch, and measure the effect of each replacement.

    At each location, all channels of the activation are replaced within a patch, and the estimate
    is computed again. Only passes over the plain images are edited, not those over augmented
    images. Work that does not depend on the location, such as the layers before, is hoisted. A
    pure function: call it under `jax.jit`.

    Args:
        estimator: an estimator, or a model if only depth is of interest.
        variables, images, key, ground_truth: see `Estimator.__call__`.
        layer: name or number (see `name_layers`) of an activation that is a feature map or tokens
            (see `wrap`), or "input" for the images.
        effect: (estimate with the edit, plain estimate) → a pytree of arrays: `depth_change`,
            `uncertainty_change`, `error_change(…)`, or your own function.
        replace: the replacement. "zero"; "mean": each channel's mean over the map; "noise":
            Gaussian, with each channel's mean and standard deviation (of finite values);
            "reference": the activation for the augmented image, inverted; or a function that maps
            the activation (B, h, w, C) to its replacement.
        patch: height and width of the patch, in the activation's pixels.
        stride: distance of neighbouring patches; `patch` by default, so that they tile the map.
        reference: augmentation for "reference"; `Flip()` by default. Its `ImageReference.invert`
            is applied to the activation, so it must not depend on the resolution, as a shift by
            pixels would.
        memory: bytes that bound how many locations are batched together. Counted are activations
            from the layer on, or from the earliest layer that the estimator reads or edits. At
            least one location is computed.

    Returns:
        The effects, with leading axes (rows, columns): location (i, j) is the patch whose upper
        left pixel is (i · stride, j · stride), cropped at the border.

    Raises:
        LayerError: for an unknown layer, or one that is not a feature map.
        GrumoError: for an unknown replacement, a patch or stride below 1, a missing key, images of
            a wrong shape or dtype, or an `Ensemble`.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import linen as nn
        >>> import grumo_jax
        >>> from grumo_jax.ablation import ablate_locations, depth_change
        >>> model = nn.Sequential([nn.Conv(8, (3, 3)), nn.relu, nn.Conv(1, (3, 3)), nn.softplus])
        >>> images = jax.random.uniform(jax.random.key(0), (2, 32, 64, 3))
        >>> variables = model.init(jax.random.key(1), images)
        >>> @jax.jit
        ... def run(variables, images):
        ...     return ablate_locations(
        ...         model, variables, images, "layers_0", depth_change, patch=8
        ...     )
        >>> run(variables, images).shape  # rows, columns, images
        (4, 8, 2)
    """
    if not isinstance(estimator, Estimator):
        estimator = ConstantBaseline(estimator)
    if isinstance(estimator, Ensemble):
        raise GrumoError("an Ensemble has several networks; ablate each member by itself")
    check_call((estimator,), images, key, ground_truth)
    needs_key = replace == "noise" or (replace == "reference" and (reference or Flip()).draws)
    if needs_key and key is None:
        raise GrumoError(f"replace={replace!r} draws random numbers: pass a key")
    views = shared_views((estimator,), variables, images, key)
    inputs = Inputs(variables, images, key, ground_truth, views)
    place = _Place.find(estimator.network, variables, images, layer)
    activation = place.read(inputs, images)
    replacement = _replacement(replace, activation, place, inputs, reference or Flip())
    plain = estimator.estimate(inputs)
    size, steps = _pair("patch", patch), _pair("stride", patch if stride is None else stride)

    def one(corner: jax.Array) -> Any:
        inside = _inside(activation.shape[1:3], corner, size)[None, :, :, None]
        edited = place.edit(estimator, lambda a: jnp.where(inside, replacement, a))
        return effect(edited.estimate(inputs), plain)

    rows, columns = (jnp.arange(0, n, s) for n, s in zip(activation.shape[1:3], steps, strict=True))
    corners = jnp.stack(jnp.meshgrid(rows, columns, indexing="ij"), axis=-1)
    layers, passes = _held(estimator, variables, images, place.call)
    chunk = elements_within(memory // passes, estimator.network, variables, images, layers)
    found = map_chunks(one, corners.reshape(-1, 2), chunk)
    return jax.tree.map(lambda x: x.reshape(*corners.shape[:2], *x.shape[1:]), found)


def _held(
    estimator: Estimator, variables: Variables, images: jax.Array, call: Call
) -> tuple[tuple[str, ...], int]:
    """Layers from which on activations exist per location, and how often each exists."""
    if call.is_input:
        return (), getattr(estimator, "samples", 1)
    if isinstance(estimator, InferenceDropout):
        network = estimator.network
        dropped = estimator.layers or choose_layers(network, variables, images, "dropout")
        names = find_layers(network, variables, images, dropped, {})
        return (call.name, *names), estimator.samples
    if isinstance(estimator, GradientUncertainty):
        return (call.name, *estimator.layer_names(variables, images)), 1
    return (call.name,), 1


def depth_change(edited: Estimate, plain: Estimate) -> jax.Array:
    """Mean relative change of depth, |d' − d| / d: (B,).

    The mean is over pixels whose plain depth is positive and finite. It is NaN if the edit makes
    one of these NaN, or if there are none.

    Example:
        >>> import jax.numpy as jnp
        >>> none = jnp.zeros((1, 2, 2))
        >>> depth_change(Estimate(none + 1.5, none, none), Estimate(none + 1, none, none))
        Array([0.5], dtype=float32)
    """
    before, after = widen(plain.depth), widen(edited.depth)
    known = is_depth(before)
    before = jnp.where(known, before, 1)
    return jnp.mean(jnp.abs(after - before) / before, axis=(1, 2), where=known)


def uncertainty_change(edited: Estimate, plain: Estimate) -> jax.Array:
    """Relative change of the mean absolute raw score: (B,).

    Positive if the edit increases it. Means are over pixels whose plain score is finite. NaN if the
    edit makes one of these NaN, or if the plain mean is 0, as for a model without an estimator.

    Example:
        >>> import jax.numpy as jnp
        >>> one = jnp.ones((1, 2, 2))
        >>> uncertainty_change(Estimate(one, one, 3 * one), Estimate(one, one, 2 * one))
        Array([0.5], dtype=float32)
    """
    known = jnp.isfinite(plain.raw)
    before, after = (
        jnp.mean(jnp.abs(widen(e.raw)), axis=(1, 2), where=known) for e in (plain, edited)
    )
    return after / before - 1


def error_change(ground_truth: jax.Array, *, median_scale: bool = True) -> Effect:
    """Make the effect on abs_rel (B,), positive if the edit makes depth worse.

    Depths that are not positive and finite count as in `depth_errors`. NaN if the edit turns a
    depth into NaN, or if an image has no ground truth.

    Args:
        ground_truth: depth (B, H, W) at the prediction's size; 0, NaN or inf where unknown.
        median_scale: scale both depths by the ratio of the medians of ground truth and plain
            depth; False for networks that predict in the ground truth's unit.

    Raises:
        GrumoError: when called with depth of another size.

    Example:
        >>> import jax.numpy as jnp
        >>> truth, none = jnp.array([[[2.0, 0.0]]]), jnp.zeros((1, 1, 2))
        >>> plain, edited = (Estimate(jnp.full((1, 1, 2), d), none, none) for d in (1.0, 1.5))
        >>> error_change(truth)(edited, plain)
        Array([0.5], dtype=float32)
    """
    known = is_depth(ground_truth)

    def effect(edited: Estimate, plain: Estimate) -> jax.Array:
        if plain.depth.shape != ground_truth.shape:
            raise GrumoError(
                f"the ground truth has shape {ground_truth.shape}, and depth {plain.depth.shape}; "
                "resize it to that"
            )
        before, after = (e.depth.astype(jnp.float32) for e in (plain, edited))
        if median_scale:
            scale = median_ratio(ground_truth.astype(jnp.float32), before, known)[:, None, None]
            before, after = before * scale, after * scale
        change = (
            depth_errors(ground_truth, after).abs_rel - depth_errors(ground_truth, before).abs_rel
        )
        broken = jnp.any(known & jnp.isnan(after) & ~jnp.isnan(before), axis=(1, 2))
        return jnp.where(broken | ~jnp.any(known, axis=(1, 2)), jnp.nan, change)

    return effect


@dataclass(frozen=True)
class _Place:
    """An activation of a network, read and edited as a map (B, h, w, C)."""

    network: DepthNetwork
    call: Call
    layout: Layout

    @classmethod
    def find(
        cls, network: DepthNetwork, variables: Variables, images: jax.Array, layer: str | int
    ) -> "_Place":
        """Look a layer up.

        Raises:
            LayerError: for an unknown layer, or one that is not a feature map.
        """
        ((name, call),) = find_layers(network, variables, images, layer, {}).items()
        check_editable([call])
        declared = network.declared_layout(name)
        return cls(network, call, find_layout(name, call.shape, declared, images))

    def read(self, inputs: Inputs, images: jax.Array) -> jax.Array:
        """The activation for these images, as a map."""
        name = self.call.name
        activation = capture_activations(self.network, inputs.variables, images, name)
        return self.layout.to_map(activation)

    def edit(self, estimator: Estimator, edit: Callable[[jax.Array], jax.Array]) -> Estimator:
        """The estimator with the map edited in each pass of its network over the plain images."""
        place = (self.call.path, self.call.index)
        edits = {**(self.network.edits or {}), place: as_edit(self.layout, edit)}
        return dataclasses.replace(estimator, model=dataclasses.replace(self.network, edits=edits))


def _replacement(
    replace: Replacement | Callable[[jax.Array], jax.Array],
    activation: jax.Array,
    place: _Place,
    inputs: Inputs,
    reference: ImageReference,
) -> jax.Array:
    """The replacement for the whole activation (B, h, w, C); patches are cut from it."""
    known = jnp.isfinite(activation)
    mean = jnp.mean(activation, axis=(1, 2), keepdims=True, where=known)
    if replace == "zero":
        return jnp.zeros_like(activation)
    if replace == "mean":
        return jnp.broadcast_to(mean, activation.shape)
    if replace == "noise":
        noise = jax.random.normal(inputs.key, activation.shape[1:], activation.dtype)[None]
        return mean + jnp.std(activation, axis=(1, 2), keepdims=True, where=known) * noise
    if replace == "reference":
        if not isinstance(reference, ImageReference):
            raise GrumoError(
                f"{reference!r} augments no image; expected an ImageReference, such as Flip()"
            )
        augmented = augment(reference, inputs.images, reference_key(inputs.key, reference, 0))
        seen = place.read(inputs, augmented)
        return jax.vmap(reference.invert, in_axes=-1, out_axes=-1)(seen)
    if not callable(replace):
        known = ", ".join(map(repr, get_args(Replacement)))
        given = repr(replace) if isinstance(replace, str) else type(replace).__name__
        raise GrumoError(f"replace is {given}; it must be one of {known}, or a function")
    replacement = replace(activation)
    shape, dtype = jnp.shape(replacement), jnp.result_type(replacement)
    if shape != activation.shape or dtype != activation.dtype:
        raise GrumoError(
            f"replace gives {dtype} {shape}; the activation is {activation.dtype} "
            f"{activation.shape}, and both must be the same"
        )
    return replacement


def _inside(size: tuple[int, ...], corner: jax.Array, patch: tuple[int, int]) -> jax.Array:
    """Mask (h, w) of the patch with this upper left corner (2,)."""
    rows, columns = (jnp.arange(n) for n in size)
    in_rows = (rows >= corner[0]) & (rows < corner[0] + patch[0])
    in_columns = (columns >= corner[1]) & (columns < corner[1] + patch[1])
    return in_rows[:, None] & in_columns[None]


def _pair(name: str, value: int | tuple[int, int]) -> tuple[int, int]:
    try:
        height, width = map(operator.index, value if isinstance(value, Sequence) else (value,) * 2)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise GrumoError(f"{name} is {value!r}; expected one or two whole numbers, 1 or more")
    return height, width
