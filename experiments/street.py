"""A held-out street of the synthetic world, for experiments on one picture."""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure

import grumo_jax
from grumo_jax._internal.atomic_writes import write_atomically
from grumo_jax.errors import GrumoError
from grumo_jax.synthetic.source import SyntheticWorld

STREET = 75
"""Number of a test clip with others on the road; the demo's drive."""


@dataclass(frozen=True)
class Street:
    """A picture, its true depth, and a network.

    Attributes:
        model, variables: the network.
        images: (1, H, W, 3).
        truth: (1, H, W), metres.
    """

    model: Any
    variables: Any
    images: jax.Array
    truth: jax.Array

    def layer(self, name: str) -> str:
        """A layer's name; of a number, the decoder's convolution that has it."""
        found = grumo_jax.name_layers(self.model, self.variables, self.images, name)
        if len(found) > 1:
            raise GrumoError(f"{name!r} stands for {len(found)} layers; name one")
        return found[0]


def parse(about: str | None, **options: dict[str, Any]) -> argparse.Namespace:
    """Options of all experiments on a street, and others: {name: arguments of add_argument}."""
    parser = argparse.ArgumentParser(description=(about or "").splitlines()[0])
    shipped = grumo_jax.shipped_checkpoint("synthetic-mono")
    parser.add_argument("--checkpoint", type=Path, default=shipped)
    parser.add_argument("--street", type=int, default=STREET, help="number of the test clip")
    for name, arguments in options.items():
        parser.add_argument(f"--{name}", **arguments)
    parser.add_argument("--out", type=Path, default=Path("results"))
    return parser.parse_args()


def open_street(checkpoint: Path, number: int) -> Street:
    """Load the network and film the street at its input size."""
    model, variables = grumo_jax.load_checkpoint(checkpoint)
    world = SyntheticWorld("street/test", size=model.input_size)
    if not 0 <= number < len(world):
        raise GrumoError(f"there is no street {number}; there are 0 … {len(world) - 1}")
    sample = world[number]
    assert sample.depth is not None
    image = jnp.asarray(sample.image, jnp.float32)[None] / 255
    return Street(model, variables, image, jnp.asarray(sample.depth)[None])


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG."""
    write_atomically(path, lambda stream: figure.savefig(stream, dpi=110, format="png"))
    print(path)


def enlarged(maps: Any, size: tuple[int, int]) -> np.ndarray:
    """A map (h, w) at the picture's size, each of its values a block."""
    rows, columns = (
        np.minimum(np.arange(n) * m // n, m - 1) for n, m in zip(size, maps.shape, strict=True)
    )
    return np.asarray(maps)[rows[:, None], columns[None]]
