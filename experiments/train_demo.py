"""Train the like of the small network `synthetic` that comes along, on synthetic frames alone.

Command: python experiments/train_demo.py --out RUN
Data:    streets and rooms of `grumo_jax.synthetic`, rendered on the fly; no frame is seen twice.
Time:    about an hour and a half on one CPU core, as its first steps tell (4500 steps of 8 frames).
Result:  RUN/model. The network that comes along is of an earlier program and an earlier world; see
         checkpoints/README.md. This one has the same size, data of the same kind, and a likelihood
         of log depth too, but predicts metres and sees the augmentation of `grumo train`.

A training that was interrupted goes on. Needs the `train` extra.
"""

import argparse
import sys
from pathlib import Path

import jax
import numpy as np
from common import mistakes_in_one_sentence

from grumo_jax import synthetic
from grumo_jax.data import Sample
from grumo_jax.data.encoding import to_uint8
from grumo_jax.data.sample import fingerprint
from grumo_jax.synthetic.scene import WORLD
from grumo_jax.training import preset, train

SETTINGS = preset("synthetic-depth").replace(
    {
        "base_model": "log",
        "dataset": "streets and rooms",
        "train_split": "all",
        "validation_split": None,
        "space": "log_depth",
        "size": (128, 320),
        "min_depth": 0.5,
        "epochs": 1,
        "learning_rate": 2e-3,
        "warmup_steps": 200,
        "weight_decay": 1e-3,
        "contrast": 0.3,
        "saturation": 0.5,
    }
)
KINDS: tuple[synthetic.SceneKind, ...] = ("street", "room")
PATTERN = (0, 1, 0, 0, 1, 0, 1, 0)
"""Of any eight frames, five are of streets."""


class StreetsAndRooms:
    """Random frames with exact depth, as a source; each is rendered when it is asked for.

    Args:
        number: of frames.
        seed: another one gives other frames.
    """

    name, crop, missing, has_depth = "streets and rooms", None, (), True

    def __init__(self, number: int, seed: int) -> None:
        self.seed = seed
        self.ids = tuple(f"{KINDS[PATTERN[i % 8]]}_{i:06d}" for i in range(number))
        self.fingerprint = fingerprint(self.name, self.ids, [f"world {WORLD}", f"seed {seed}"])

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Render a frame."""
        key = jax.random.fold_in(jax.random.key(self.seed), index)
        kind = KINDS[PATTERN[index % 8]]
        frame = synthetic.random_frame(key, kind=kind, size=SETTINGS.size)
        return Sample(self.ids[index], to_uint8(frame.image), np.asarray(frame.depth))


def main() -> None:
    """Train, or go on with it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with mistakes_in_one_sentence():
        settings = SETTINGS.replace({"seed": options.seed})
        source = StreetsAndRooms(options.steps * settings.batch_size, options.seed)
        result = train(settings, source, options.out, progress=sys.stderr.isatty())
        print(result.checkpoint)


if __name__ == "__main__":
    main()
