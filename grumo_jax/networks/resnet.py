"""ResNet encoder (He et al., CVPR 2016) in torchvision's form, without the classifier."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from grumo_jax.errors import GrumoError

MOMENTUM = 0.9
"""BatchNorm's momentum: the share of the running statistics that an update keeps."""
BLOCKS_PER_STAGE = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
BOTTLENECK_EXPANSION = 4


def has_bottlenecks(num_layers: int) -> bool:
    """Whether a ResNet of this depth has 1×1-3×3-1×1 bottleneck blocks."""
    return num_layers >= 50


def batch_norm(x: jax.Array, name: str, train: bool) -> jax.Array:
    """BatchNorm with torchvision's settings; statistics and arithmetic are at least float32."""
    dtype = x.dtype if jnp.finfo(x.dtype).bits >= 32 else jnp.float32
    norm = nn.BatchNorm(use_running_average=not train, momentum=MOMENTUM, dtype=dtype, name=name)
    return norm(x.astype(dtype)).astype(x.dtype)


class ResidualBlock(nn.Module):
    """Basic (3×3-3×3) or bottleneck (1×1-3×3-1×1) block; the stride sits on the first 3×3."""

    width: int
    stride: int = 1
    bottleneck: bool = False
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Map (B, h, w, C) to (B, h/stride, w/stride, C')."""
        conv = partial(nn.Conv, use_bias=False, dtype=self.dtype)
        strides = (self.stride, self.stride)
        pad = ((1, 1), (1, 1))
        out_width = self.width * (BOTTLENECK_EXPANSION if self.bottleneck else 1)
        if self.bottleneck:
            y = conv(self.width, (1, 1), name="conv1")(x)
            y = nn.relu(batch_norm(y, "bn1", train))
            y = conv(self.width, (3, 3), strides=strides, padding=pad, name="conv2")(y)
            y = nn.relu(batch_norm(y, "bn2", train))
            y = batch_norm(conv(out_width, (1, 1), name="conv3")(y), "bn3", train)
        else:
            y = conv(self.width, (3, 3), strides=strides, padding=pad, name="conv1")(x)
            y = nn.relu(batch_norm(y, "bn1", train))
            y = batch_norm(conv(self.width, (3, 3), padding=pad, name="conv2")(y), "bn2", train)
        if x.shape[-1] != out_width or self.stride != 1:
            x = conv(out_width, (1, 1), strides=strides, name="downsample_conv")(x)
            x = batch_norm(x, "downsample_bn", train)
        return nn.relu(x + y)


class Stage(nn.Module):
    """A sequence of residual blocks; the stride is the first one's."""

    width: int
    num_blocks: int
    stride: int
    bottleneck: bool
    dtype: Any = None

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Map (B, h, w, C) to (B, h/stride, w/stride, C')."""
        for i in range(self.num_blocks):
            stride = self.stride if i == 0 else 1
            block = ResidualBlock(self.width, stride, self.bottleneck, self.dtype, name=f"block{i}")
            x = block(x, train=train)
        return x


class ResNet(nn.Module):
    """Images to five feature maps, at 1/2, 1/4, 1/8, 1/16 and 1/32 of the input's resolution.

    Attributes:
        num_layers: 18, 34, 50, 101 or 152.
        widths: channels of the stem and of the four stages (before the ×4 of bottlenecks).
        dtype: dtype of the computation; the parameters' by default.

    Reference: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> images = jnp.zeros((1, 64, 96, 3))
        >>> features, _ = jax.eval_shape(ResNet(18).init_with_output, jax.random.key(0), images)
        >>> [feature.shape[1:] for feature in features]
        [(32, 48, 64), (16, 24, 64), (8, 12, 128), (4, 6, 256), (2, 3, 512)]
    """

    num_layers: int = 18
    widths: tuple[int, ...] = (64, 64, 128, 256, 512)
    dtype: Any = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> tuple[jax.Array, ...]:
        """Map images (B, H, W, 3) in [0, 1] to the five feature maps, finest first."""
        if self.num_layers not in BLOCKS_PER_STAGE:
            raise GrumoError(
                f"num_layers is {self.num_layers}; a ResNet has one of "
                f"{', '.join(map(str, BLOCKS_PER_STAGE))} layers"
            )
        x = (images - 0.45) / 0.225
        pad = ((3, 3), (3, 3))
        x = nn.Conv(
            self.widths[0], (7, 7), (2, 2), pad, use_bias=False, dtype=self.dtype, name="conv1"
        )(x)
        features = [nn.relu(batch_norm(x, "bn1", train))]
        x = nn.max_pool(features[0], (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for i, num_blocks in enumerate(BLOCKS_PER_STAGE[self.num_layers], start=1):
            stride = 1 if i == 1 else 2
            bottleneck = has_bottlenecks(self.num_layers)
            stage = Stage(
                self.widths[i], num_blocks, stride, bottleneck, self.dtype, name=f"layer{i}"
            )
            x = stage(x, train=train)
            features.append(x)
        return tuple(features)
