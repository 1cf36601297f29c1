"""What several test files use."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

SHARED = Path(__file__).parents[2] / "shared"
TINY = {"encoder_widths": (8, 8, 8, 16, 16), "decoder_widths": (4, 4, 8, 8, 8)}


def need_shared(*parts):
    """A path of the developers' reference data, or a skip that says so."""
    path = SHARED.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"reference data {'/'.join(parts)} is not on this machine")
    return path


def assert_trees_close(actual, desired, **tolerance):
    """Compare two trees leaf by leaf."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), actual, desired)


def to_batch(image):
    """Turn uint8 (H, W, 3) into float32 (1, H, W, 3)."""
    return jnp.asarray(image[None], jnp.float32) / 255
