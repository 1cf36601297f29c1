"""From the papers' recipe to the averaged one, a change at a time, on real and synthetic data.

Command: python experiments/recipes.py --data-dir KITTI --weights PYDNET.npz
         python experiments/recipes.py --scenes 40
Data:    as experiments/real_kitti.py; or so many scenes of the synthetic world (half of them
         streets, half rooms) that no network was trained on, and the network that comes along.
Time:    one CPU core, 10 s an image on KITTI, 3 s on scenes.
Result:  docs/results.md. gain.csv and tables.md hold each recipe's difference to the papers', image
         by image, with 95 % bootstrap intervals; cost.md what each costs.
"""

import argparse
import dataclasses
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
from common import write_text
from pydnet import NETWORK, SIZE, load_pydnet

import grumo_jax
from grumo_jax import (
    DepthNetwork,
    FeatureDropout,
    FeatureNoise,
    Flip,
    GradientUncertainty,
    Gray,
    Noise,
)
from grumo_jax.data import KittiRaw, Sample
from grumo_jax.data.sample import Crop, Source, fingerprint
from grumo_jax.estimators import BASELINES, Estimator, named_estimator
from grumo_jax.evaluation import PROTOCOLS, evaluate
from grumo_jax.report import Column, Table, gain_table, summarize, write_report
from grumo_jax.synthetic import random_frame

PAPER = "paper"
THREE = (Flip(), Gray(), Noise())
FIVE = (*THREE, FeatureDropout(), FeatureNoise())
HELD_OUT = 90_000
"""Seeds from here on were not trained on."""


def recipes(model: Any) -> dict[str, Estimator]:
    """Recipes by name; the last is `GradientUncertainty.averaged`."""

    def grad(**options: Any) -> Estimator:
        return GradientUncertainty.paper(model, **options)

    everywhere = {"layers": "decoder", "combine": "mean"}
    log = {"space": "log_depth"}
    return {
        PAPER: grad(),
        "norm": grad(reduction="norm"),
        "log depth": grad(**log),
        "disparity": grad(space="disparity"),
        "all layers, std": grad(layers="decoder", combine="std"),
        "all layers, mean": grad(**everywhere),
        "log depth, all layers": grad(**everywhere, **log),
        "log depth, 3 references": grad(references=THREE, **log),
        "log depth, all layers, 5 references": grad(**everywhere, references=FIVE, **log),
        "averaged, norm": GradientUncertainty.averaged(model, reduction="norm"),
        "averaged": GradientUncertainty.averaged(model),
    }


@dataclass(frozen=True)
class Scenes:
    """Scenes of the synthetic world, streets and rooms in turn.

    Attributes:
        number: of scenes.
        size: (height, width).
    """

    number: int
    size: tuple[int, int]

    name = "synthetic/held out"
    missing: tuple[str, ...] = ()
    crop: Crop | None = None
    has_depth = True

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Kind and seed, in a form that does not say of one drive's frames that they belong."""
        return tuple(f"{self._kind(i)}_{HELD_OUT + i}" for i in range(self.number))

    @property
    def fingerprint(self) -> str:
        """SHA-256 over name, size and ids."""
        return fingerprint(f"{self.name} {self.size}", self.ids)

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int) -> Sample:
        """Render one."""
        key = jax.random.key(HELD_OUT + index)
        frame = random_frame(key, kind=self._kind(index), size=self.size)
        image = np.asarray(255 * np.clip(frame.image, 0, 1)).round().astype(np.uint8)
        return Sample(self.ids[index], image, np.asarray(frame.depth))

    def _kind(self, index: int) -> Any:
        return ("street", "room")[index % 2]


def costs(model: Any, variables: Any, size: tuple[int, int]) -> Table:
    """FLOPs of each recipe in forward passes, as XLA counts them."""
    images = jax.ShapeDtypeStruct((1, *size, 3), np.float32)
    key = jax.random.key(0)
    network = model if isinstance(model, DepthNetwork) else model.as_depth_network()

    def flops(function: Any) -> float:
        analysis: Any = jax.jit(function).lower(variables, images).compile().cost_analysis()
        return float(analysis["flops"])

    forward = flops(lambda v, x: network.read_depth(network.module.apply(v, x)))
    rows: list[list[str | float]] = []
    for name, estimator in recipes(model).items():
        # One by one, since XLA counts the body of a loop over references once.
        def once(v: Any, x: Any, estimator: Any = estimator) -> Any:
            parts = [dataclasses.replace(estimator, references=r) for r in estimator.references]
            return [part(v, x, key).uncertainty for part in parts]

        rows.append([name, flops(once) / forward])
    notes = ["FLOPs of depth and uncertainty in forward passes of the network."]
    return Table(
        "Cost", [Column("recipe"), Column("forward passes", "lower", digits=2)], rows, notes
    )


def run(
    model: Any, variables: Any, source: Source, protocol: str, size: Any, about: Mapping[str, Any],
    out: Path,
) -> None:  # fmt: skip
    """Evaluate all recipes and write tables and curves."""
    estimators = recipes(model) | {name: named_estimator(name, model) for name in BASELINES}
    results = evaluate(
        estimators, variables, source, out / "results.jsonl", protocol=PROTOCOLS[protocol],
        about=about, size=size, devices=jax.devices()[:1], progress=sys.stderr.isatty(),
    )  # fmt: skip
    summary = summarize(results)
    _, tables = write_report(out, [summary])
    gain = gain_table([summary], PAPER)
    assert gain is not None
    write_text(out / "gain.md", gain.to_markdown())
    write_text(out / "cost.md", costs(model, variables, size).to_markdown())
    print(tables[0].to_markdown(), gain.to_markdown(), (out / "cost.md").read_text(), sep="\n")


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, help="KITTI raw")
    parser.add_argument("--weights", type=Path, help="PyDNet's weights, .npz")
    parser.add_argument("--scenes", type=int, help="number of synthetic scenes, instead")
    parser.add_argument("--out", type=Path, default=Path("results/recipes"))
    options = parser.parse_args()
    if options.scenes:
        model, variables = grumo_jax.load_checkpoint(grumo_jax.shipped_checkpoint("synthetic"))
        assert model.input_size is not None
        about = {"base_model": "synthetic", "checkpoint": "synthetic"}
        scenes = Scenes(options.scenes, model.input_size)
        run(model, variables, scenes, "median", model.input_size, about, options.out / "scenes")
    elif options.data_dir and options.weights:
        about = {"base_model": "PyDNet", "checkpoint": "mobile PyDNet trained on KITTI"}
        variables, source = load_pydnet(options.weights), KittiRaw(options.data_dir, "velodyne")
        run(NETWORK, variables, source, "kitti-mono", SIZE, about, options.out / "kitti")
    else:
        parser.error("give --data-dir and --weights, or --scenes")


if __name__ == "__main__":
    main()
