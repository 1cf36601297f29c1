"""Reference depths: predictions under a reference's augmentation, or ground truth."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from grumo_jax._internal.vmap_or_loop import vmap_or_loop
from grumo_jax.activations import apply_model, choose_layers, edit_activations
from grumo_jax.activations.arrays import is_array
from grumo_jax.activations.edits import edit_in_layout
from grumo_jax.activations.names import as_layers, find_layers
from grumo_jax.errors import GrumoError
from grumo_jax.estimators.draws import Numbered, reference_key
from grumo_jax.networks.network import DepthNetwork, Variables
from grumo_jax.references import (
    FeatureReference,
    GroundTruth,
    ImageReference,
    check_reference,
)


def depth_form(
    network: DepthNetwork, variables: Variables, images: jax.Array
) -> jax.ShapeDtypeStruct:
    """Shape (B, H, W) and dtype of the plain depth, which may be smaller than the images."""
    return jax.eval_shape(
        lambda v, x: network.read_depth(apply_model(network, v, x)), variables, images
    )


def augment(reference: ImageReference, images: Any, key: jax.Array | None) -> Any:
    """Augment each image (B, H, W, C) of a pytree; other leaves are returned unchanged."""
    leaves, tree = jax.tree.flatten(images)
    places = [i for i, leaf in enumerate(leaves) if jnp.ndim(leaf) == 4]
    for n, i in enumerate(places):
        # The first image gets the key itself, as it does alone.
        own_key = key if key is None or n == 0 else jax.random.fold_in(key, n)
        leaves[i] = reference.augment(leaves[i], own_key)
    return jax.tree.unflatten(tree, leaves)


Views = Mapping[tuple[ImageReference, int], jax.Array]
"""{(reference, number): depth (B, H, W) predicted from the augmented image, not inverted yet}."""


def predict_views(
    network: DepthNetwork,
    variables: Variables,
    images: jax.Array,
    numbered: Sequence[Numbered],
    key: jax.Array | None,
) -> Views:
    """Predict depth from the augmented images of each numbered image reference."""
    if not numbered:
        return {}
    augmented = [augment(r, images, reference_key(key, r, n)) for r, n in numbered]

    def predict(images: Any) -> jax.Array:
        return network.read_depth(apply_model(network, variables, images))

    depths = vmap_or_loop(predict, jax.tree.map(lambda *several: jnp.stack(several), *augmented))
    return {view: depths[i] for i, view in enumerate(numbered)}


def reference_depths(
    network: DepthNetwork,
    variables: Variables,
    images: jax.Array,
    numbered: Sequence[Numbered],
    key: jax.Array | None = None,
    *,
    ground_truth: jax.Array | None = None,
    views: Views | None = None,
) -> jax.Array:
    """Reference depths (B, R, H, W).

    Pixels without depth are 0 if an augmentation's inverse left them out, and infinite if ground
    truth is missing.

    Args:
        numbered: R references with their numbers; may be empty.
        key: required if a reference draws random numbers.
        ground_truth: depth (B, H, W), 0 where unknown; required for `GroundTruth`.
        views: predictions from augmented images; None computes them.

    Raises:
        GrumoError: for an object that is not a reference, or ground truth that is missing or does
            not have the predicted depth's shape.
    """
    if not numbered:
        form = depth_form(network, variables, images)
        return jnp.zeros((form.shape[0], 0, *form.shape[1:]), form.dtype)
    if views is None:
        seen = [one for one in numbered if isinstance(one[0], ImageReference)]
        views = predict_views(network, variables, images, seen, key)
    depths = []
    for reference, n in numbered:
        match reference:
            case ImageReference():
                depth = reference.invert(views[reference, n])
            case FeatureReference():
                own_key = reference_key(key, reference, n)
                depth = _feature_depth(network, variables, images, reference, own_key)
            case GroundTruth():
                depth = _true_depth(ground_truth, depth_form(network, variables, images))
            case _:
                check_reference(reference)
        depths.append(depth)
    return jnp.stack(depths, axis=1)


def _feature_depth(
    network: DepthNetwork,
    variables: Variables,
    images: jax.Array,
    reference: FeatureReference,
    key: jax.Array,
) -> jax.Array:
    layers = as_layers(reference.layers) or choose_layers(network, variables, images, "features")
    calls = find_layers(network, variables, images, layers, {})
    edits = {}
    for i, (name, call) in enumerate(calls.items()):
        edit = partial(_edit_leaves, reference, jax.random.fold_in(key, i))
        edits[name] = edit_in_layout(network, call, images, edit)
    # Earlier layers are those of the plain pass, and under jit XLA merges them (CSE).
    return network.read_depth(edit_activations(network, variables, images, edits))


def _edit_leaves(reference: FeatureReference, key: jax.Array, activation: Any) -> Any:
    leaves, tree = jax.tree.flatten(activation)
    keys = jax.random.split(key, len(leaves))
    edited = [
        reference.edit(leaf, k) if is_array(leaf) else leaf
        for leaf, k in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(tree, edited)


def _true_depth(ground_truth: jax.Array | None, predicted: jax.ShapeDtypeStruct) -> jax.Array:
    if ground_truth is None:
        raise GrumoError(
            "the reference GroundTruth() needs the true depth: "
            "estimator(variables, images, ground_truth=depth)"
        )
    if ground_truth.shape != predicted.shape:
        raise GrumoError(
            f"ground_truth has shape {ground_truth.shape}; expected {predicted.shape}, that of the "
            "predicted depth"
        )
    return jnp.where(ground_truth > 0, ground_truth, jnp.inf)
