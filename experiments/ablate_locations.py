"""Ablation of places: which activations, where, decide depth, uncertainty and error.

Command: python experiments/ablate_locations.py --layer 4 --patch 1
Data:    none: a held-out street of the synthetic world; a checkpoint that comes along, or another.
Time:    2 minutes on one CPU core, half of them for rendering and compiling.
Figure:  docs/ablation.md. Each patch of the activation is replaced (by zero, the channel's mean,
         noise, or what the mirrored picture gives), and the decoder and Grad run again: change of
         depth, of the raw uncertainty, and of abs_rel. Written: ablate_locations.png and .npz.
"""

from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from common import mistakes_in_one_sentence
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from street import Street, enlarged, open_street, parse, save

from grumo_jax import Estimate, GradientUncertainty
from grumo_jax._internal.atomic_writes import write_atomically
from grumo_jax.ablation import ablate_locations, depth_change, error_change, uncertainty_change
from grumo_jax.ablation.locations import Replacement
from grumo_jax.plots import overlay, plot_depth, plot_image, plot_uncertainty

EFFECTS = ("depth", "uncertainty", "error")
TITLES = (
    "change of depth, mean |d' − d| / d",
    "change of the mean raw score",
    "change of abs_rel",
)


def measure(street: Street, layer: str, patch: int) -> dict[str, np.ndarray]:
    """Effects (rows, columns, 3) of every patch, by replacement."""
    estimator = GradientUncertainty.paper(street.model)

    def run(variables: Any, images: jax.Array, truth: jax.Array, replace: Any) -> jax.Array:
        changes = (depth_change, uncertainty_change, error_change(truth))

        def effects(edited: Estimate, plain: Estimate) -> jax.Array:
            return jnp.stack([change(edited, plain)[0] for change in changes])

        key = jax.random.key(0)
        return ablate_locations(
            estimator, variables, images, layer, effects, key, replace=replace, patch=patch
        )

    compiled = jax.jit(run, static_argnames="replace")
    arguments = street.variables, street.images, street.truth
    return {n: np.asarray(compiled(*arguments, replace=n)) for n in get_args(Replacement)}


def draw(street: Street, found: dict[str, np.ndarray], title: str) -> Figure:
    """The picture above, then a row for each replacement and a column for each effect."""
    estimate = GradientUncertainty.paper(street.model)(street.variables, street.images)
    image = np.asarray(street.images[0])
    height, width = image.shape[:2]
    figure = Figure(
        figsize=(15, 0.9 + (1 + len(found)) * (4.3 * height / width + 0.12)), layout="constrained"
    )
    rows = figure.subplots(1 + len(found), 3)
    plot_image(image, axes=rows[0, 0])
    plot_depth(np.asarray(estimate.depth[0]), predicts="disparity", axes=rows[0, 1])
    plot_uncertainty(np.asarray(estimate.uncertainty[0]), axes=rows[0, 2])
    for cells, (name, effects) in zip(rows[1:], found.items(), strict=True):
        for i, cell in enumerate(cells):
            _draw_effect(cell, image, effects[..., i], signed=i > 0)
        cells[0].text(
            -0.02, 0.5, name, rotation=90, ha="right", va="center", transform=cells[0].transAxes
        )
    for cell, heading in zip(rows[1], TITLES, strict=True):
        cell.set_title(heading, fontsize=10)
    figure.suptitle(title)
    return figure


def _draw_effect(axes: Axes, image: np.ndarray, effect: np.ndarray, *, signed: bool) -> None:
    """An effect over the dimmed picture's size; blue is less, red is more."""
    values = enlarged(effect, image.shape[:2])
    high = max(float(np.percentile(np.abs(effect), 99)), 1e-12)
    shown: Any = values if signed else overlay(image, values)
    style: Any = {"cmap": "RdBu_r", "vmin": -high, "vmax": high} if signed else {}
    drawn = axes.imshow(shown, interpolation="nearest", **style)
    axes.set_axis_off()
    if signed:
        axes.figure.colorbar(drawn, ax=axes, shrink=0.8, pad=0.01, format="%.0e")
    else:
        most = f"up to {np.max(effect):.0e}"
        axes.text(0.99, 0.04, most, color="white", ha="right", transform=axes.transAxes)


def main() -> None:
    """Run it."""
    options = parse(
        __doc__,
        layer={"default": "4", "help": "name, number in the decoder, or input"},
        patch={"type": int, "default": 1, "help": "side of a patch, in the layer's pixels"},
    )
    with mistakes_in_one_sentence():
        street = open_street(options.checkpoint, options.street)
        layer = street.layer(options.layer)
        found = measure(street, layer, options.patch)
        title = f"{options.checkpoint.name}: patches of {options.patch}×{options.patch} of {layer}"
        save(draw(street, found, title), options.out / "ablate_locations.png")
        effects: Any = {
            f"{name}_{effect}": values[..., i]
            for name, values in found.items()
            for i, effect in enumerate(EFFECTS)
        }
        write_atomically(
            options.out / "ablate_locations.npz", lambda stream: np.savez(stream, **effects)
        )


if __name__ == "__main__":
    main()
