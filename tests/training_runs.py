"""A small source and small networks, for tests of training."""

import csv
import itertools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

import grumo_jax
from grumo_jax.data import Sample
from grumo_jax.errors import DataError
from grumo_jax.training.feeding import Fit, feed
from grumo_jax.training.settings import Settings
from grumo_jax.training.state import (
    initial_state,
    initial_variables,
    make_optimiser,
    make_schedule,
)
from grumo_jax.training.train import train

TINY = {
    "size": (32, 64),
    "encoder_widths": (4, 4, 4, 8, 8),
    "decoder_widths": (4, 4, 4, 4, 4),
    "pose_encoder_widths": (4, 4, 4, 8, 8),
    "pose_width": 8,
    "batch_size": 4,
    "learning_rate": 1e-3,
    "schedule": "constant",
}
SETTINGS = Settings("depth", **TINY, steps=6, statistics_batches=2, jitter=0.0)
ONE = jax.devices()[:1]
PICTURE = (1, 8, 16)
"""Batch, height and width of the pictures that losses are worked out on by hand."""
PACE = {"log_every": 1, "evaluate_every": 3, "save_every": 2}


class Small(nn.Module):
    """A network of two layers that can be trained, saved and loaded as Monodepth2 is."""

    predict_uncertainty: bool = False
    output: str = "depth"
    dtype: object = None
    num_layers: int = 18
    min_depth: float = 0.1
    max_depth: float = 100.0

    @nn.compact
    def __call__(self, images, *, train=False):
        x = nn.Conv(4, (3, 3), use_bias=False, dtype=self.dtype, name="conv")(images)
        norm = nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")
        x = nn.relu(norm(x.astype(jnp.float32)))
        heads = nn.Conv(2, (3, 3), dtype=self.dtype, name="head_0")(x).astype(jnp.float32)
        log_sigmas = (heads[..., 1],) if self.predict_uncertainty else None
        if self.output == "depth":
            return grumo_jax.DepthOutput((heads[..., 0],), None, log_sigmas)
        disparity = nn.sigmoid(heads[..., 0])
        return grumo_jax.DepthOutput((1 / (0.01 + disparity),), (disparity,), log_sigmas)


class Fake:
    """Pictures of coarse noise seen from several places, at depths that brightness tells."""

    crop, missing = None, ()

    def __init__(self, number=10, *, has_depth=True, damaged=(), depth=1.0):
        self.name, self.ids = "fake/train", tuple(f"frame {i}" for i in range(number))
        self.has_depth, self.damaged, self.depth = has_depth, damaged, depth
        self.fingerprint = f"{number}"

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        if index in self.damaged:
            raise DataError(f"{self.ids[index]}: damaged")
        rng = np.random.default_rng(index)
        wide = rng.integers(0, 256, (4, 10, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        views = {name: wide[:, 8 + by : 72 + by] for name, by in _SHIFTS.items()}
        image = views.pop("image")
        depth = self.depth * (1 + image.mean(axis=-1, dtype=np.float32) / 64)
        depth = depth.astype(np.float32) if self.has_depth else None
        camera = np.array([[40, 0, 31.5], [0, 40, 15.5], [0, 0, 1]], np.float32)
        return Sample(self.ids[index], image, depth, camera, **views, stereo_offset=0.54)


_SHIFTS = {"image": 0, "previous": -2, "following": 2, "stereo": 4}


class SmallPose(nn.Module):
    """Two layers from two frames to a motion."""

    dtype: object = None

    @nn.compact
    def __call__(self, first, second, *, train=False):
        x = nn.Conv(4, (3, 3), strides=4, name="conv")(jnp.concatenate([first, second], axis=-1))
        x = nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9, name="norm")(x))
        return 0.01 * jnp.mean(nn.Conv(6, (1, 1), name="pose")(x), axis=(1, 2))


def run(out, settings=SETTINGS, source=None, **options):
    options = {**PACE, "devices": ONE, "workers": 0, **options}
    return train(settings, source or Fake(), out, **options)


def rows(file):
    with file.open(newline="") as stream:
        return [
            {k: v for k, v in row.items() if k != "steps_per_second"}
            for row in csv.DictReader(stream)
        ]


def last_state(folder):
    return sorted((folder / "checkpoints").iterdir())[-1]


def flip_byte(file):
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def begin(settings, **options):
    optimiser = make_optimiser(settings, make_schedule(settings, 6))
    return initial_state(initial_variables(settings), optimiser, **options)


def arrays_of(settings, number=1):
    batches = feed(Fake(), Fit.of(settings), settings.batch_size, seed=0, workers=0)
    return [fed.arrays for fed in itertools.islice(batches, number)]


def stop_after(number):
    counter = itertools.count(1)
    return lambda: next(counter) == number


def gray(value):
    return jnp.full((*PICTURE, 3), value, jnp.float32)


def noise(seed):
    return jnp.float32(np.random.default_rng(seed).random((*PICTURE, 3)))


def constant_error(a, b):
    """Photometric error of two constant pictures."""
    ssim = (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)
    return 0.85 * (1 - ssim) / 2 + 0.15 * abs(a - b)
