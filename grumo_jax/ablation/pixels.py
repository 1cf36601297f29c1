"""What each output pixel contributes to Grad: the gradient of its loss."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from grumo_jax._internal.vmap_or_loop import map_chunks
from grumo_jax.ablation.memory import MEMORY, elements_within
from grumo_jax.errors import GrumoError
from grumo_jax.estimators import GradientUncertainty, Inputs
from grumo_jax.estimators.backward import outputs_vjp
from grumo_jax.estimators.base import check_call, shared_views
from grumo_jax.losses import may_count, pixel_losses
from grumo_jax.networks.network import Variables
from grumo_jax.scores import Reduction, check_score, reduce_channels


def pixel_gradients(
    estimator: GradientUncertainty,
    variables: Variables,
    images: jax.Array,
    pixels: jax.Array,
    key: jax.Array | None = None,
    *,
    reduction: Reduction | None = None,
    ground_truth: jax.Array | None = None,
    memory: int = MEMORY,
) -> dict[str, jax.Array]:
    """Gradients of the losses of single output pixels, at the estimator's layers.

    Grad back-propagates the mean of the losses per pixel, (d − d_ref)² + w · σ². The gradient of
    one of them shows which region of an activation influences that pixel; their mean over all
    pixels is Grad's gradient. A pure function: call it under `jax.jit`.

    Args:
        estimator: gives layers, references, loss, space and weight; its reduction is not used.
        variables, images, key, ground_truth: see `Estimator.__call__`.
        pixels: (K, 2) int, rows and columns of the output; the same in all images. Traced pixels
            that lie outside the output have NaN gradients.
        reduction: over channels, applied in each pass to save memory; None keeps the channels.
        memory: bytes that bound how many gradients are batched together. Counted are activations
            from the earliest layer on. At least one gradient is computed.

    Returns:
        {layer: (K, L, B, h, w, C), or (K, L, B, h, w) with a reduction}, for L losses: one per
        reference for the squared loss, else one.

    Raises:
        GrumoError: for an estimator other than Grad, a loss function (it need not be a mean over
            pixels), pixels of a wrong shape or dtype or outside the output, a missing key, or
            images of a wrong shape or dtype.
        LayerError: for an unknown layer, or one that is not a feature map.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from flax import linen as nn
        >>> import grumo_jax
        >>> from grumo_jax.ablation import pixel_gradients
        >>> model = nn.Sequential([nn.Conv(8, (3, 3)), nn.relu, nn.Conv(1, (3, 3)), nn.softplus])
        >>> images = jax.random.uniform(jax.random.key(0), (1, 32, 64, 3))
        >>> variables = model.init(jax.random.key(1), images)
        >>> grad = grumo_jax.GradientUncertainty(model)
        >>> pixels = jnp.array([[16, 32], [20, 5]])
        >>> run = jax.jit(lambda v, x: pixel_gradients(grad, v, x, pixels, reduction="norm"))
        >>> run(variables, images)["layers_2"].shape
        (2, 1, 1, 32, 64)
    """
    _check_estimator(estimator)
    check_call((estimator,), images, key)
    pixels = jnp.asarray(pixels)
    _check(pixels, reduction)
    views = shared_views((estimator,), variables, images, key)
    references = estimator.reference_depths(Inputs(variables, images, key, ground_truth, views))
    network = estimator.network
    losses_of = partial(pixel_losses, references=references, **estimator.loss_options)
    layers = estimator.layer_names(variables, images)
    outputs, pull_back = outputs_vjp(
        network, variables, images, layers, log_sigma=may_count(estimator.uncertainty_weight)
    )
    losses, to_outputs = jax.vjp(losses_of, *outputs)
    _check_inside(pixels, losses.shape[2:])
    count = losses.shape[1]

    def one(place: jax.Array) -> dict[str, jax.Array]:
        row, column = pixels[place // count]
        inside = (row >= 0) & (row < losses.shape[2]) & (column >= 0) & (column < losses.shape[3])
        only = jnp.zeros_like(losses).at[:, place % count, row, column].set(1)
        only = jnp.where(inside, only, jnp.nan)
        gradients = pull_back(to_outputs(only))
        if reduction is None:
            return gradients
        return {name: reduce_channels(g, reduction) for name, g in gradients.items()}

    chunk = elements_within(memory, network, variables, images, layers)
    found = map_chunks(one, jnp.arange(len(pixels) * count), chunk)
    return {name: g.reshape(len(pixels), count, *g.shape[1:]) for name, g in found.items()}


def _check_estimator(estimator: GradientUncertainty) -> None:
    """Raise a `GrumoError` unless this is Grad with a loss that is a mean over pixels."""
    if not isinstance(estimator, GradientUncertainty):
        raise GrumoError(
            f"pixel_gradients takes Grad apart, a GradientUncertainty; this is a "
            f"{type(estimator).__name__}"
        )
    if not isinstance(estimator.loss, str):
        raise GrumoError(
            "the estimator's loss is a function of its own, which need not be a mean over pixels; "
            "pixel_gradients needs one of the losses with names"
        )


def _check(pixels: jax.Array, reduction: str | None) -> None:
    shape, dtype = jnp.shape(pixels), jnp.result_type(pixels)
    if len(shape) != 2 or shape[1] != 2 or not shape[0] or not jnp.issubdtype(dtype, jnp.integer):
        raise GrumoError(
            f"pixels are {dtype} {shape}; expected integers (K, 2), rows and columns of the output"
        )
    if reduction is not None:
        check_score(reduction, "std")


def _check_inside(pixels: jax.Array, size: tuple[int, ...]) -> None:
    """Raise a `GrumoError` for pixels outside the output, unless they are traced."""
    if isinstance(pixels, jax.core.Tracer):
        return
    outside = np.any((np.asarray(pixels) < 0) | (np.asarray(pixels) >= size), axis=1)
    if outside.any():
        row, column = np.asarray(pixels)[outside][0].tolist()
        raise GrumoError(
            f"pixel ({row}, {column}) lies outside the output of {size[0]}×{size[1]} pixels"
        )
