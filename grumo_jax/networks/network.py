"""`DepthNetwork`: any Flax module, with what estimators need to know of it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias, overload

import jax
import jax.numpy as jnp

from grumo_jax._internal.checks import check_choice, is_shape
from grumo_jax._internal.precision import widen
from grumo_jax.errors import GrumoError
from grumo_jax.networks.layouts import Layout

Model: TypeAlias = Any
"""A `Monodepth2`, another linen module or an `nnx.GraphDef`, or `wrap` of one."""

Variables: TypeAlias = Any
"""What a model is applied with: linen's collections, or the `nnx.State` of an NNX module."""

Quantity = Literal["depth", "disparity"]
"""What a network predicts; disparity is 1 / depth, in the network's units."""


def output_depth(output: Any) -> jax.Array:
    """Depth of a module's output: `output.depth`, `output["depth"]`, or the output itself.

    Raises:
        GrumoError: if the output is none of these.
    """
    if hasattr(output, "depth"):
        return output.depth
    if isinstance(output, Mapping) and "depth" in output:
        return output["depth"]
    if isinstance(output, jax.Array):
        return output
    raise GrumoError(
        f"the model returns a {type(output).__name__} and grumo_jax cannot tell where depth is in "
        "it; say so: grumo_jax.wrap(model, depth=lambda output: …)"
    )


@dataclass(frozen=True)
class DepthNetwork:
    """A Flax module with what estimators need to know of it; made by `wrap`.

    Hashable if its functions are, so that it can be a static argument of `jax.jit`. Define those
    functions once: a new one makes `jax.jit` retrace.

    Attributes:
        module: a linen module, or the `nnx.GraphDef` of an NNX module.
        depth: function of the module's output that returns depth (B, H, W).
        log_sigma: function of the output that returns s = log σ (B, H, W), or None.
        predicts: "depth" or "disparity"; means and variances over passes are taken of it.
        least_disparity: disparity of the farthest depth. Disparities are counted from it, so
            that the zeros which a rotation leaves in the corners mean "farthest".
        decoder_layers: names of the decoder's convolutions (pre-activation), coarse to fine;
            None lets `choose_layers` find them.
        dropout_layers: layers after which `InferenceDropout` drops channels; None: chosen.
        dropout_rate: rate of the channel dropout in training there; None without.
        feature_layers: layers that feature references augment; None: chosen.
        layouts: (pattern of layer names, layout) pairs for layouts that are not recognised.
        kwargs: keyword arguments of every call of the module, as sorted pairs.
        edits: {(path of a submodule, index of its call): function that replaces the output},
            applied in every run; see `ablate_locations`.

    Example:
        >>> import grumo_jax
        >>> network = grumo_jax.Monodepth2(input_size=(192, 640)).as_depth_network()
        >>> network.predicts, network.input_size, network.feature_layers
        ('disparity', (192, 640), ('encoder',))
    """

    module: Any
    depth: Callable[[Any], jax.Array] = output_depth
    log_sigma: Callable[[Any], jax.Array] | None = None
    predicts: Quantity = "depth"
    least_disparity: float = 0.0
    decoder_layers: tuple[str, ...] | None = None
    dropout_layers: tuple[str, ...] | None = None
    dropout_rate: float | None = None
    feature_layers: tuple[str, ...] | None = None
    layouts: tuple[tuple[str, Layout], ...] = ()
    kwargs: tuple[tuple[str, Any], ...] = ()
    edits: Mapping[tuple[str, int], Callable[[Any], Any]] | None = None

    @property
    def input_size(self) -> tuple[int, int] | None:
        """(height, width) of the training images, if the module has `input_size`; else None."""
        size = getattr(self.module, "input_size", None)
        return (int(size[0]), int(size[1])) if is_shape(size, 2) else None

    def read_depth(self, output: Any) -> jax.Array:
        """Depth (B, H, W) of a module's output, in float32 or wider.

        The output is cast before `depth` is called: an inverse would overflow in float16. A last
        axis of one channel is dropped.

        Raises:
            GrumoError: if `depth` does not return real numbers (B, H, W).
        """
        depth = self.depth(widen(output))
        if isinstance(depth, jax.Array) and depth.ndim == 4 and depth.shape[-1] == 1:
            depth = depth[..., 0]
        if not isinstance(depth, jax.Array) or depth.ndim != 3:
            found = f"shape {depth.shape}" if hasattr(depth, "shape") else type(depth).__name__
            raise GrumoError(
                f"the network's depth has {found}; expected (batch, height, width): say how to "
                "read it, grumo_jax.wrap(model, depth=lambda output: …)"
            )
        if not jnp.issubdtype(depth.dtype, jnp.floating):
            raise GrumoError(
                f"the network's depth is {depth.dtype}; expected real numbers, such as float32"
            )
        return widen(depth)

    def read_log_sigma(self, output: Any) -> jax.Array | None:
        """s = log σ (B, H, W) of a module's output, float32 or wider; None without `log_sigma`."""
        return None if self.log_sigma is None else widen(self.log_sigma(widen(output)))

    def declared_layout(self, name: str) -> Layout | None:
        """Layout of the first pattern in `layouts` that matches a layer's name, or None."""
        return next((layout for p, layout in self.layouts if matches(name, p)), None)

    def to_quantity(self, depth: jax.Array) -> jax.Array:
        """Convert depth, of any shape, to the predicted quantity: depth or disparity."""
        return 1 / depth - self.least_disparity if self.predicts == "disparity" else depth

    def to_depth(self, quantity: jax.Array) -> jax.Array:
        """The inverse of `to_quantity`."""
        return 1 / (quantity + self.least_disparity) if self.predicts == "disparity" else quantity


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern (`fnmatch`) matches a layer's name, with or without its call number.

    Example:
        >>> matches("block_1/conv#0", "block_*/conv"), matches("head", "block_*")
        (True, False)
    """
    return any(fnmatchcase(n, pattern) for n in (name, name.partition("#")[0]))


def wrap(
    module: Any,
    *,
    depth: Callable[[Any], jax.Array] | None = None,
    log_sigma: Callable[[Any], jax.Array] | None = None,
    predicts: Quantity | None = None,
    decoder_layers: str | Sequence[str] | None = None,
    dropout_layers: str | Sequence[str] | None = None,
    feature_layers: str | Sequence[str] | None = None,
    layouts: Mapping[str, Layout] | None = None,
    kwargs: Mapping[str, Any] | None = None,
) -> DepthNetwork:
    """Make a `DepthNetwork` of any Flax module.

    Arguments left out keep what the network says of itself (`Monodepth2` does), or are chosen.

    Args:
        module: an unmodified linen module, or the graph definition of an NNX module:
            `graphdef, state = nnx.split(model)`, with `state` passed as `variables`.
        depth: function of the module's output that returns positive depth (B, H, W). By default
            the output itself, its attribute `depth` or its entry "depth".
        log_sigma: function of the output that returns s = log σ (B, H, W), if it is predicted.
        predicts: "disparity" if the network predicts inverse depth: means and variances over
            several passes are then taken of 1 / depth. "depth" by default.
        decoder_layers, dropout_layers, feature_layers: names of layers (`activation_shapes`
            lists them). Those left out are chosen by the rules of `choose_layers`.
        layouts: {pattern of layer names: layout} for layers that are not channels-last maps, such
            as {"encoder/*": FeatureMap(channel_axis=1), "vit/block_*": Tokens(prefix=1)}. The
            first pattern that matches counts (`fnmatch`); a pattern that matches no layer is an
            error as soon as layers are listed. Tokens of square patches are recognised without,
            with or without class and register tokens.
        kwargs: keyword arguments of every call of the module, such as {"train": False}.

    Raises:
        GrumoError: if `predicts` is neither "depth" nor "disparity", or a layout is no
            `FeatureMap` or `Tokens`.

    Example:
        >>> from flax import linen as nn
        >>> import grumo_jax
        >>> network = grumo_jax.wrap(nn.Conv(1, (3, 3)), depth=lambda y: nn.softplus(y[..., 0]))
        >>> network.predicts
        'depth'
    """
    if predicts is not None:
        check_choice("predicts", predicts, ("depth", "disparity"))
    for layout in (layouts or {}).values():
        if not isinstance(layout, Layout):
            raise GrumoError(f"a layout is {layout!r}; expected FeatureMap(…) or Tokens(…)")
    given = {
        "depth": depth,
        "log_sigma": log_sigma,
        "predicts": predicts,
        "decoder_layers": as_names(decoder_layers),
        "dropout_layers": as_names(dropout_layers),
        "feature_layers": as_names(feature_layers),
        "layouts": None if layouts is None else tuple(layouts.items()),
        "kwargs": None if kwargs is None else tuple(sorted(kwargs.items())),
    }
    changes: Any = {name: value for name, value in given.items() if value is not None}
    return dataclasses.replace(as_network(module), **changes)


def as_network(model: Model) -> DepthNetwork:
    """Return the model as a `DepthNetwork`; one that is already is returned as it is.

    A model with a method `as_depth_network()`, such as `Monodepth2`, describes itself. Of other
    models only the module is known, and their output must be or name depth.
    """
    if isinstance(model, DepthNetwork):
        return model
    describe = getattr(model, "as_depth_network", None)
    return DepthNetwork(model) if describe is None else describe()


@overload
def as_names(names: str | Sequence[str]) -> tuple[str, ...]: ...
@overload
def as_names(names: None) -> None: ...
def as_names(names: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """One name or several as a tuple; None stays None."""
    return (names,) if isinstance(names, str) else None if names is None else tuple(names)
