"""What several test files use."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

GOLDEN = Path(__file__).parent / "golden"
SHARED = Path(__file__).parents[2] / "shared"


def need_shared(*parts):
    """A path of the developers' reference data, or a skip that says so."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"reference data {'/'.join(parts)} is not on this machine")
    return path


def assert_trees_close(actual, desired, **tolerance):
    """Compare two trees leaf by leaf."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), actual, desired)


def exchanges(program):
    """How devices exchange anything in a compiled program: names of HLO's instructions."""
    kinds = "all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
    return set(re.findall(rf" ({kinds})(?:-start)?\(", program.as_text()))


def draw_variables(model, images, seed=0):
    """Plausible variables without compiling the model's own initialisers."""
    rng = np.random.default_rng(seed)

    def draw(path, leaf):
        kind, values = path[-1].key, rng.normal(size=leaf.shape).astype(np.float32)
        if kind == "kernel":
            return jnp.asarray(values / np.sqrt(np.prod(leaf.shape[:-1])).astype(np.float32))
        return jnp.asarray(0.1 * values + (1 if kind in ("scale", "var") else 0), jnp.float32)

    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    return jax.tree.map_with_path(draw, shapes)


def to_batch(image):
    """Turn uint8 (H, W, 3) into float32 (1, H, W, 3)."""
    return jnp.asarray(image[None], jnp.float32) / 255


class SmallNet(nn.Module):
    """A depth network that compiles in a moment: two layers down, two up, two heads."""

    @nn.compact
    def __call__(self, images):
        fine = nn.tanh(nn.Conv(4, (3, 3), strides=2, name="down1")(images))
        x = nn.tanh(nn.Conv(8, (3, 3), strides=2, name="down2")(fine))
        x = nn.tanh(nn.Conv(8, (3, 3), name="up2")(x))
        x = jnp.concatenate([self._twice(x), fine], axis=-1)
        x = self._twice(nn.tanh(nn.Conv(4, (3, 3), name="up1")(x)))
        heads = nn.Conv(2, (3, 3), name="heads")(x)
        return {"depth": nn.softplus(4 * heads[..., 0]) + 0.5, "log_sigma": heads[..., 1]}

    @staticmethod
    def _twice(x):
        return jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)


def read_log_sigma(output):
    return output["log_sigma"]
