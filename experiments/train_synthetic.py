"""Train the base models of the leaderboard on the streets of the synthetic world.

Command: python experiments/train_synthetic.py --data-dir WORLD --out RUNS
         python experiments/train_synthetic.py --data-dir WORLD --out RUNS --only Log_0 Self_0
Data:    street/train, 4000 clips: first `grumo prepare synthetic --data-dir WORLD --split street`.
Time:    35 minutes for a "Base", 8 to 17 for each of the others, on one of two shared cores. --only
         shares the trainings between processes ("Base" must be finished first, and "Post" before
         "Self"). A training that was interrupted goes on; one that is finished is left alone.
Result:  RUNS/NAME_SEED/model for experiments/synthetic.py. "Base" is `grumo train synthetic-mono`.
         All others start from the "Base" of their seed and train for a quarter of its steps at
         full resolution, so that they differ in the base model alone: `--init RUNS/Base_SEED/model
         --steps 2000 --learning-rate 5e-4 --set resolution=full --set warmup_steps=100`, and for
         "Self" `--teacher RUNS/Post_SEED/model`.
"""

import argparse
import sys
from pathlib import Path

from common import mistakes_in_one_sentence

from grumo_jax.data.prepared import open_prepared
from grumo_jax.training import Settings, Weights, preset, train, with_base_model
from grumo_jax.training.settings import BaseModelName

BASE_MODELS: dict[str, BaseModelName] = {
    "Base": "plain",
    "Post": "plain",
    "Log": "log",
    "Self": "self",
    "Repr": "repr",
    "Drop": "drop",
    "Snap": "snap",
}
"""{name in tables: what `grumo train` calls it}; "Boot" is an ensemble of all "Post"."""
AFTER_BASE = {"resolution": "full", "learning_rate": 5e-4, "warmup_steps": 100}
"""Settings of trainings that start from "Base"."""


def all_runs(seeds: int) -> list[str]:
    """Names of all trainings, teachers first.

    >>> all_runs(1)
    ['Base_0', 'Post_0', 'Log_0', 'Self_0', 'Repr_0', 'Drop_0', 'Snap_0']
    """
    return [f"{name}_{seed}" for name in BASE_MODELS for seed in range(seeds)]


def is_run(name: str) -> bool:
    """Whether there is a training of that name.

    >>> is_run("Log_1"), is_run("Log"), is_run("Boot_0")
    (True, False, False)
    """
    base_model, _, seed = name.rpartition("_")
    return base_model in BASE_MODELS and seed.isdecimal()


def settings_of(run: str, steps: int) -> Settings:
    """The settings of a training such as "Log_1", where "Base" takes so many steps."""
    name, _, seed = run.rpartition("_")
    settings = with_base_model(preset("synthetic-mono"), BASE_MODELS[name])
    if name == "Base":
        return settings.replace({"seed": int(seed), "steps": steps})
    return settings.replace({"seed": int(seed), "steps": steps // 4, **AFTER_BASE})


def weights_of(run: str, out: Path) -> Weights:
    """What a training starts from and learns from."""
    name, _, seed = run.rpartition("_")
    base, post = (out / f"{start}_{seed}" / "model" for start in ("Base", "Post"))
    if name == "Base":
        return Weights()
    return Weights(init=base, teacher=post if name == "Self" else None)


def train_one(run: str, options: argparse.Namespace) -> Path:
    """Train a base model and return its checkpoint."""
    source, validation = (
        open_prepared("synthetic", options.data_dir, f"street/{part}") for part in ("train", "val")
    )
    result = train(
        settings_of(run, options.steps),
        source,
        options.out / run,
        validation=validation,
        weights=weights_of(run, options.out),
        progress=sys.stderr.isatty(),
    )
    return result.checkpoint


def main() -> None:
    """Train what is asked for, one after the other."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8000, help="of Base; others a quarter")
    parser.add_argument("--only", nargs="+", help="names of trainings, such as Log_0")
    options = parser.parse_args()
    if unknown := [run for run in options.only or () if not is_run(run)]:
        parser.error(f"--only {' '.join(unknown)}: expected names such as {all_runs(1)[1]}")
    with mistakes_in_one_sentence():
        for run in options.only or all_runs(options.seeds):
            print(train_one(run, options))


if __name__ == "__main__":
    main()
