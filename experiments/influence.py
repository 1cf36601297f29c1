"""Regions of influence: from where in the decoder the uncertainty of single pixels comes.

Command: python experiments/influence.py --layers 2 4 6
Data:    none: a held-out street of the synthetic world; a checkpoint that comes along, or another.
Time:    1 minute on one CPU core, half of it for rendering and compiling.
Figure:  docs/ablation.md. Above, the gradient of single output pixels' losses at some layers.
         Below, Grad's score of the mean loss beside its parts: the sum of the sizes of pixels'
         gradients (of every --step-th pixel), and the share of it that does not cancel out.
         Written: influence.png.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from common import mistakes_in_one_sentence
from matplotlib.figure import Figure
from street import Street, enlarged, open_street, parse, save

from grumo_jax import GradientUncertainty
from grumo_jax.ablation import pixel_gradients
from grumo_jax.plots import plot_image, plot_uncertainty

CHOSEN = 3


def choose_pixels(uncertainty: np.ndarray, number: int) -> np.ndarray:
    """The most uncertain pixels (K, 2) that lie at least a sixth of the picture apart."""
    distance, left = uncertainty.shape[1] / 6, np.array(uncertainty)
    rows, columns = np.indices(left.shape)
    chosen = []
    for _ in range(number):
        row, column = np.unravel_index(np.argmax(left), left.shape)
        chosen.append((row, column))
        left[np.hypot(rows - row, columns - column) < distance] = -np.inf
    return np.array(chosen, np.int32)


def norms(estimator: Any, street: Street, pixels: np.ndarray) -> dict[str, np.ndarray]:
    """{layer: (K, h, w)}, sizes of the gradients of single pixels' losses."""

    @jax.jit
    def run(variables: Any, images: jax.Array) -> dict[str, jax.Array]:
        found = pixel_gradients(estimator, variables, images, jnp.array(pixels), reduction="norm")
        return {name: g[:, 0, 0] for name, g in found.items()}

    return jax.device_get(run(street.variables, street.images))


def parts_of_score(
    estimator: Any, street: Street, layer: str, step: int
) -> tuple[np.ndarray, np.ndarray]:
    """At one layer (h, w): mean size of pixels' gradients, and size of their mean."""
    rows, columns = (np.arange(step // 2, n, step) for n in street.images.shape[1:3])
    pixels = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)

    @jax.jit
    def run(variables: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = pixel_gradients(estimator, variables, images, jnp.array(pixels))[layer][:, 0, 0]
        sizes = jnp.linalg.norm(found, axis=-1)
        return jnp.mean(sizes, axis=0), jnp.linalg.norm(jnp.mean(found, axis=0), axis=-1)

    return jax.device_get(run(street.variables, street.images))


def draw(
    street: Street,
    uncertainty: np.ndarray,
    pixels: np.ndarray,
    regions: dict[str, np.ndarray],
    parts: tuple[np.ndarray, np.ndarray],
    title: str,
) -> Figure:
    """A row for each pixel and a column for each layer, and the parts of the score below."""
    image = np.asarray(street.images[0])
    height, width = image.shape[:2]
    columns = max(len(regions), 3)
    figure = Figure(
        figsize=(5 * columns, 0.8 + (len(pixels) + 1) * (4.8 * height / width + 0.1)),
        layout="constrained",
    )
    rows = figure.subplots(len(pixels) + 1, columns, squeeze=False)
    for cells, (row, column), k in zip(rows, pixels, range(len(pixels)), strict=False):
        for cell, (name, sizes) in zip(cells, regions.items(), strict=False):
            plot_image(0.6 * image.mean(-1, keepdims=True) * np.ones(3), title="", axes=cell)
            shown = enlarged(sizes[k] / sizes[k].max(), (height, width))
            cell.imshow(shown, cmap="hot", vmin=-0.3, vmax=1.2, alpha=np.sqrt(shown))
            cell.set_title(name if k == 0 else "")
            cell.plot(column, row, "+", color="cyan", markersize=12, markeredgewidth=2)
    mean_size, size_of_mean = parts
    share = size_of_mean / np.maximum(mean_size, 1e-12)
    plot_uncertainty(uncertainty, title="Grad", axes=rows[-1, 0])
    sum_of_sizes = enlarged(mean_size, (height, width))
    plot_uncertainty(sum_of_sizes, title="sum of pixels' sizes", axes=rows[-1, 1])
    drawn = rows[-1, 2].imshow(enlarged(share, (height, width)), cmap="viridis", vmin=0, vmax=1)
    rows[-1, 2].set_title("size of the sum / sum of sizes")
    figure.colorbar(drawn, ax=rows[-1, 2], shrink=0.8, pad=0.01)
    for cell in rows.ravel():
        cell.set_axis_off()
    figure.suptitle(title)
    return figure


def main() -> None:
    """Run it."""
    options = parse(
        __doc__,
        layers={"nargs": "+", "default": ["2", "4", "6"], "help": "names, or decoder's numbers"},
        step={"type": int, "default": 4, "help": "use every so manieth pixel for the parts"},
    )
    with mistakes_in_one_sentence():
        street = open_street(options.checkpoint, options.street)
        layers: Sequence[str] = [street.layer(name) for name in options.layers]
        several = GradientUncertainty.paper(street.model, layers=layers)
        last = GradientUncertainty.paper(street.model, layers=layers[-1])
        uncertainty = np.asarray(last(street.variables, street.images).uncertainty[0])
        pixels = choose_pixels(uncertainty, CHOSEN)
        regions = norms(several, street, pixels)
        parts = parts_of_score(last, street, layers[-1], options.step)
        named = {name: regions[name] for name in layers}
        title = f"{options.checkpoint.name}: gradients of single pixels' losses (+)"
        figure = draw(street, uncertainty, pixels, named, parts, title)
        save(figure, options.out / "influence.png")


if __name__ == "__main__":
    main()
