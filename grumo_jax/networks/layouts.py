"""The layout of an activation: which axes are rows, columns, channels or tokens.

Scores and ablations are maps over the image, so they need an activation's rows and columns.
Channels-last maps and tokens of square patches are recognised; declare other layouts with
`wrap(…, layouts={"encoder/*": FeatureMap(channel_axis=1)})`.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp

from grumo_jax.errors import GrumoError, LayerError

SLACK = 0.15
"""Largest relative difference between vertical and horizontal stride: networks crop and pad."""

PREFIXES = (0, 1, 2, 4, 5)
"""Prefix lengths that are recognised: class, distillation and register tokens."""


@dataclass(frozen=True)
class FeatureMap:
    """The layout of a feature map: batch, rows, columns, and channels on any axis but the first.

    Attributes:
        channel_axis: axis of the channels: -1 for (B, h, w, C), 1 for (B, C, h, w).

    Raises:
        GrumoError: if `channel_axis` is the batch axis or out of range for four axes.

    Example:
        >>> import jax.numpy as jnp
        >>> FeatureMap(channel_axis=1).to_map(jnp.zeros((2, 8, 4, 6))).shape
        (2, 4, 6, 8)
    """

    channel_axis: int = -1

    def __post_init__(self) -> None:
        if self.channel_axis not in (1, 2, 3, -1, -2, -3):
            raise GrumoError(f"channel_axis is {self.channel_axis!r}; expected 1, 2, 3 or -1")

    def place(self, shape: tuple[int, ...], size: tuple[int, int]) -> "FeatureMap | None":
        """This layout if an activation of that shape fits an image of that size, else None."""
        if len(shape) != 4:
            return None
        height, width = (n for i, n in enumerate(shape[1:], 1) if i != self.channel_axis % 4)
        return self if fits((height, width), size) else None

    def to_map(self, activation: jax.Array) -> jax.Array:
        """Transpose an activation to (B, h, w, C)."""
        return jnp.moveaxis(activation, self.channel_axis, -1)

    def from_map(self, maps: jax.Array, activation: jax.Array) -> jax.Array:
        """Transpose maps (B, h, w, C) back: the inverse of `to_map`."""
        return jnp.moveaxis(maps, -1, self.channel_axis)


@dataclass(frozen=True)
class Tokens:
    """The layout of a transformer's tokens: one for each patch of the image, row by row.

    Attributes:
        prefix: number of tokens before the patches', such as class and register tokens.
        grid: (rows, columns) of patches; by default inferred from square patches that tile the
            image exactly.
        axis: axis of the tokens. All other axes but the batch's count as channels, so attention
            heads, (B, tokens, heads, d) or (B, heads, tokens, d), are supported.

    Raises:
        GrumoError: if `prefix` is negative, `grid` no pair of sizes, or `axis` the batch axis.

    Example:
        >>> import jax.numpy as jnp
        >>> tokens = Tokens(prefix=1, grid=(4, 6))
        >>> tokens.to_map(jnp.zeros((2, 25, 8))).shape
        (2, 4, 6, 8)
    """

    prefix: int = 0
    grid: tuple[int, int] | None = None
    axis: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.prefix, int) or self.prefix < 0:
            raise GrumoError(f"prefix is {self.prefix!r}; expected a number of tokens, 0 or more")
        if not isinstance(self.axis, int) or self.axis == 0:
            raise GrumoError(f"axis is {self.axis!r}; expected an axis other than the batch's, 0")
        if self.grid is not None:
            grid = tuple(self.grid)
            if len(grid) != 2 or not all(isinstance(n, int) and n >= 1 for n in grid):
                raise GrumoError(f"grid is {self.grid!r}; expected (rows, columns) of tokens")
            object.__setattr__(self, "grid", grid)

    def place(self, shape: tuple[int, ...], size: tuple[int, int]) -> "Tokens | None":
        """This layout with its grid filled in if an activation of that shape fits, else None."""
        if len(shape) < 3 or not -len(shape) < self.axis < len(shape):
            return None
        tokens = shape[self.axis] - self.prefix
        if self.grid is not None:
            return self if math.prod(self.grid) == tokens and fits(self.grid, size) else None
        grids = {grid for grid in _patch_grids(size) if math.prod(grid) == tokens}
        return replace(self, grid=grids.pop()) if len(grids) == 1 else None

    def to_map(self, activation: jax.Array) -> jax.Array:
        """Drop the prefix and reshape the patches' tokens to (B, h, w, C)."""
        assert self.grid is not None, "place finds the grid"
        tokens = jnp.moveaxis(activation, self.axis, 1)[:, self.prefix :]
        return tokens.reshape(tokens.shape[0], *self.grid, math.prod(tokens.shape[2:]))

    def from_map(self, maps: jax.Array, activation: jax.Array) -> jax.Array:
        """The inverse of `to_map`; the prefix tokens are copied from `activation`."""
        first = jnp.moveaxis(activation, self.axis, 1)
        tokens = maps.reshape(first.shape[0], -1, *first.shape[2:])
        together = jnp.concatenate([first[:, : self.prefix], tokens], axis=1)
        return jnp.moveaxis(together, 1, self.axis)


Layout = FeatureMap | Tokens


def fits(grid: tuple[int, int], size: tuple[int, int]) -> bool:
    """Whether a grid is the image's (height, width) divided by one common stride.

    Example:
        >>> fits((6, 20), (192, 640)), fits((129, 12), (192, 640))
        (True, False)
    """
    # Rounding and padding make a grid one pixel larger or smaller.
    least = max((n / (m + 1) for n, m in zip(size, grid, strict=True)), default=0.0)
    most = min(n / max(m - 1, 0.5) for n, m in zip(size, grid, strict=True))
    return least <= most or _disagreement(grid, size) <= math.log(1 + SLACK)


def _disagreement(grid: tuple[int, int], size: tuple[int, int]) -> float:
    """|log(vertical stride / horizontal stride)|."""
    return abs(math.log(size[0] / grid[0] * grid[1] / size[1]))


def _patch_grids(size: tuple[int, int]) -> set[tuple[int, int]]:
    """Grids of all square patches that tile an image exactly."""
    height, width = size
    both = math.gcd(height, width)
    return {(height // n, width // n) for n in range(1, both + 1) if both % n == 0}


def picture_size(images: Any) -> tuple[int, int]:
    """(height, width) of the first image in a pytree of inputs."""
    _, height, width, _ = _first_picture(images)
    return height, width


def batch_size(images: Any) -> int:
    """Batch size of the first image array in a pytree of inputs."""
    return _first_picture(images)[0]


def _first_picture(images: Any) -> tuple[int, ...]:
    """Shape (B, H, W, C) of the first leaf with four axes."""
    for leaf in jax.tree.leaves(images):
        if jnp.ndim(leaf) == 4:
            return jnp.shape(leaf)
    raise GrumoError("the inputs hold no images (batch, height, width, channels)")


def find_layout(name: str, shape: Any, declared: Layout | None, images: Any) -> Layout:
    """Find the layout of an activation: the declared one, or one that is recognised.

    Args:
        name: the layer's, for error messages.
        shape: the activation, or its `jax.ShapeDtypeStruct`; other pytrees are refused.
        declared: the layout declared in `wrap(…, layouts=…)` for this layer, or None.
        images: the network's input; its first image array gives size and batch.

    Raises:
        LayerError: if the shape does not match the declared layout, or none is recognised.
    """
    form = getattr(shape, "shape", None)
    size = picture_size(images)
    batch = batch_size(images)
    if form is None or not form or form[0] != batch:
        found = "several arrays" if form is None else f"shape {form}"
        raise LayerError(
            f"layer {name!r} is no feature map (batch, height, width, channels): it has {found}, "
            f"for {batch} images; name the output of a convolution"
        )
    candidates = [declared] if declared else _usual(form)
    for layout in candidates:
        if placed := layout.place(form, size):
            return placed
    if declared:
        raise LayerError(
            f"layer {name!r} has shape {form}, which cannot be {declared} for images of "
            f"{size[0]}×{size[1]}; correct what wrap(…, layouts=…) says"
        )
    raise LayerError(
        f"layer {name!r} is no feature map (batch, height, width, channels) of images of "
        f"{size[0]}×{size[1]}: it has shape {form}; name another layer, or say what its axes are: "
        f'wrap(model, layouts={{"{name}": FeatureMap(channel_axis=…) or Tokens(prefix=…)}})'
    )


def _usual(shape: tuple[int, ...]) -> list[Layout]:
    """Layouts to try in this order where none is declared."""
    if len(shape) == 4:
        return [FeatureMap()]
    return [Tokens(prefix=n) for n in PREFIXES] if len(shape) == 3 else []


def as_edit(layout: Layout, edit: Any) -> Any:
    """Lift an edit of maps (B, h, w, C) to one of activations in this layout."""
    return lambda activation: layout.from_map(edit(layout.to_map(activation)), activation)
