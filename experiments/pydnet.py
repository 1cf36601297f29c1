"""A mobile PyDNet with weights trained on KITTI: a network that is not of our making.

A plain linen module that knows nothing of grumo_jax, and `wrap` of it. The weights (a .npz with
PyTorch's names) are not part of this repository.

Reference: Poggi et al., "Towards real-time unsupervised monocular depth estimation on CPU",
IROS 2018.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import grumo_jax


def leaky(x: jax.Array) -> jax.Array:
    """The network's activation."""
    return nn.leaky_relu(x, 0.2)


def upsample_aligned(x: jax.Array) -> jax.Array:
    """Bilinear ×2 with aligned corners."""
    for axis in (1, 2):
        n = x.shape[axis]
        position = np.linspace(0, n - 1, 2 * n)
        low = np.minimum(position.astype(int), n - 2) if n > 1 else np.zeros(2 * n, int)
        shape = [-1 if i == axis else 1 for i in range(4)]
        weight = (position - low).astype(np.float32).reshape(shape)
        high = np.minimum(low + 1, n - 1)
        x = jnp.take(x, low, axis=axis) * (1 - weight) + jnp.take(x, high, axis=axis) * weight
    return x


class PyDNet(nn.Module):
    """Images (B, H, W, 3) in [0, 1] to minus the disparity (B, H/2, W/2, 1)."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Run the network."""
        pad = ((1, 1), (1, 1))
        features = []
        for i, width in enumerate((16, 32, 64, 96, 128, 192)):
            x = leaky(nn.Conv(width, (3, 3), (2, 2), pad, name=f"conv{i}_0")(x))
            x = leaky(nn.Conv(width, (3, 3), padding=pad, name=f"conv{i}_2")(x))
            features.append(x)
        deconv = nn.Conv(8, (2, 2), padding="VALID", name="deconv_2")
        regressor = nn.Conv(1, (3, 3), padding=pad, name="regressor")
        coarser = None
        for i in reversed(range(6)):
            x = features[i]
            if coarser is not None:
                up = jnp.pad(upsample_aligned(coarser), ((0, 0), (0, 1), (0, 1), (0, 0)))
                x = jnp.concatenate([x, deconv(up)], axis=-1)
            for n, width in ((0, 96), (2, 64), (4, 32)):
                x = leaky(nn.Conv(width, (3, 3), padding=pad, name=f"decoder{i}_{n}")(x))
            coarser = nn.Conv(8, (3, 3), padding=pad, name=f"decoder{i}_6")(x)
        return regressor(coarser)


def pydnet_depth(output: jax.Array) -> jax.Array:
    """The network's output to depth (B, H, W), relative."""
    batch, height, width, _ = output.shape
    disparity = jax.image.resize(-output[..., 0], (batch, 2 * height, 2 * width), "bilinear")
    return 1 / jnp.maximum(disparity, 0.01)


NETWORK = grumo_jax.wrap(PyDNet(), depth=pydnet_depth, predicts="disparity")
SIZE = (192, 640)


def load_pydnet(path: Path) -> dict[str, Any]:
    """PyTorch names (OIHW) to Flax variables."""
    params: dict[str, Any] = {}
    with np.load(path) as weights:
        for name in weights:
            *module, leaf = name.split(".")
            entry = params.setdefault("_".join(module), {})
            value = weights[name]
            entry["kernel" if leaf == "weight" else "bias"] = jnp.asarray(
                value.transpose(2, 3, 1, 0) if leaf == "weight" else value
            )
    return {"params": params}
