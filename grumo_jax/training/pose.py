"""The pose network of Monodepth2 (Godard et al., ICCV 2019): how the camera moved, for training."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from grumo_jax._internal.checks import check_images
from grumo_jax.errors import GrumoError
from grumo_jax.networks.resnet import ResNet

POSE_SCALE = 0.01
"""Factor of the outputs: small, so that training starts near a camera at rest."""


class PoseNetwork(nn.Module):
    """Predicts the motion between two frames: a ResNet on six channels and four convolutions.

    Attributes:
        num_layers: depth of the ResNet: 18, 34, 50, 101 or 152.
        encoder_widths: channels of the stem and the four stages (before the ×4 of bottlenecks).
        width: channels of the three convolutions after the encoder.
        dtype: dtype of the computation; the parameters' by default. The result is float32.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> pose = PoseNetwork(encoder_widths=(4, 4, 4, 8, 8), width=8)
        >>> frames = jnp.zeros((2, 32, 64, 3))
        >>> jax.eval_shape(lambda key: pose.init_with_output(key, frames, frames)[0],
        ...                jax.random.key(0)).shape
        (2, 6)

    Reference: Godard et al., "Digging Into Self-Supervised Monocular Depth Estimation",
    ICCV 2019.
    """

    num_layers: int = 18
    encoder_widths: tuple[int, ...] = (64, 64, 128, 256, 512)
    width: int = 256
    dtype: Any = None

    def __post_init__(self) -> None:
        # A tuple even if given a list: configurations must be hashable.
        object.__setattr__(self, "encoder_widths", tuple(self.encoder_widths))
        super().__post_init__()

    @nn.compact
    def __call__(self, first: jax.Array, second: jax.Array, *, train: bool = False) -> jax.Array:
        """Predict the motion of the scene's points from the first camera to the second.

        Args:
            first: (B, H, W, 3) float in [0, 1], the earlier frame.
            second: (B, H, W, 3), the later one.
            train: use batch statistics in BatchNorm, and update the running ones.

        Returns:
            (B, 6) float32: axis-angle in radians and translation in the depth network's units,
            as `transform_matrix` takes them.

        Raises:
            GrumoError: on a wrong or unequal shape, or another dtype.
        """
        check_images(first, channels=3)
        check_images(second, channels=3)
        if first.shape != second.shape:
            raise GrumoError(f"frames have shapes {first.shape} and {second.shape}; expected equal")
        frames = jnp.concatenate([first, second], axis=-1)
        encoder = ResNet(self.num_layers, self.encoder_widths, self.dtype, name="encoder")
        conv = partial(nn.Conv, dtype=self.dtype)
        x = encoder(frames.astype(self.dtype or frames.dtype), train=train)[-1]
        x = nn.relu(conv(self.width, (1, 1), name="squeeze")(x))
        for name in ("conv1", "conv2"):
            x = nn.relu(conv(self.width, (3, 3), padding=((1, 1), (1, 1)), name=name)(x))
        # Twelve as in the original, whose second motion is never used.
        x = conv(12, (1, 1), name="pose")(x)
        return POSE_SCALE * jnp.mean(x.astype(jnp.float32), axis=(1, 2))[:, :6]
