"""The depth decoder of Monodepth2 (Godard et al., ICCV 2019), for all base models."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from grumo_jax.networks.convolutions import ReflectionConv

STAGES = (4, 3, 2, 1, 0)
"""Decoder stages, coarse to fine."""

UP_CONVS = tuple(f"up_{stage}_{half}" for stage in STAGES for half in (0, 1))
"""The ten up-convolutions in the official order: before and after the upsampling of each stage."""


class ConvBlock(nn.Module):
    """3×3 convolution with reflection padding, ELU and channel dropout."""

    width: int
    dropout_rate: float = 0.0
    dtype: Any = None

    @nn.compact
    def __call__(
        self, x: jax.Array, upsampled: jax.Array | None = None, *, dropout: bool = False
    ) -> jax.Array:
        """Map x (B, h, w, C) and optionally `upsampled` (B, h/2, w/2, D) to (B, h, w, width)."""
        conv = ReflectionConv(self.width, (3, 3), dtype=self.dtype, name="conv")
        x = nn.elu(conv(x, upsampled))
        drop = nn.Dropout(self.dropout_rate, broadcast_dims=(1, 2), name="dropout")
        return drop(x, deterministic=not dropout)


class DepthDecoder(nn.Module):
    """Feature maps to one or two one-channel maps at each trained scale.

    Attributes:
        widths: channels of stages 0 (full resolution) to 4.
        scales: scales with a head; scale s has 1/2^s of the input's resolution.
        predict_uncertainty: whether each scale has a second head.
        dropout_rate: probability with which a channel is dropped after each up-convolution.
        dtype: dtype of the computation; the parameters' by default.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> decoder = DepthDecoder((4, 4, 8, 8, 8), scales=(0,))
        >>> features = [jnp.zeros((1, 32 >> i, 64 >> i, 8)) for i in range(1, 6)]
        >>> (maps, _), _ = jax.eval_shape(decoder.init_with_output, jax.random.key(0), features)
        >>> maps[0].shape
        (1, 32, 64)
    """

    widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    scales: tuple[int, ...] = (0, 1, 2, 3)
    predict_uncertainty: bool = False
    dropout_rate: float = 0.0
    dtype: Any = None

    @nn.compact
    def __call__(
        self, features: Sequence[jax.Array], *, dropout: bool = False
    ) -> tuple[dict[int, jax.Array], dict[int, jax.Array]]:
        """Return the heads' raw outputs {scale: (B, h, w)}: predictions and uncertainties."""
        predictions, uncertainties = {}, {}
        x = features[-1]
        for stage in STAGES:
            x = self._up_conv(stage, 0)(x, dropout=dropout)
            batch, height, width, _ = x.shape
            nothing = jnp.zeros((batch, 2 * height, 2 * width, 0), x.dtype)
            skipped = features[stage - 1] if stage > 0 else nothing
            x = self._up_conv(stage, 1)(skipped, x, dropout=dropout)
            if stage in self.scales:
                predictions[stage] = self._head(f"head_{stage}")(x)[..., 0]
                if self.predict_uncertainty:
                    head = self._head(f"uncertainty_head_{stage}")
                    uncertainties[stage] = head(x)[..., 0]
        return predictions, uncertainties

    def _up_conv(self, stage: int, half: int) -> ConvBlock:
        name = f"up_{stage}_{half}"
        return ConvBlock(self.widths[stage], self.dropout_rate, self.dtype, name=name)

    def _head(self, name: str) -> ReflectionConv:
        return ReflectionConv(1, (3, 3), dtype=self.dtype, name=name)
