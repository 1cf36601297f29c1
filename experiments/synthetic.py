"""Leaderboard of the synthetic world: base models × estimators, in regions and over seeds.

Command: python experiments/synthetic.py --data-dir WORLD --runs RUNS
Data:    street/test, 200 clips with exact depth and masks of what moves, lies in shadow, or is
         mirrored; depths up to 80 m, median scaling. RUNS is what experiments/train_synthetic.py
         wrote: Post_0, Post_1, …, Log_0, …
Time:    25 minutes on one CPU core for two trainings of each base model.
Result:  docs/results.md. Written: leaderboard.md and .csv (means over clips; then mean and standard
         deviation over trainings), leaderboard.png, and for the first seed tables, curves, a page.

AUSE and AURG of a region are those of its pixels alone. "Boot" is the ensemble of all trainings of
Post, "Boot+Log" that of all Log, "Snap" of the snapshots of one training.
"""

import argparse
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import methods, mistakes_in_one_sentence, with_baselines, write_text
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from grumo_jax._internal.atomic_writes import write_atomically
from grumo_jax.data import Source, at_most
from grumo_jax.data.prepared import open_prepared
from grumo_jax.data.sample import REGIONS
from grumo_jax.errors import GrumoError
from grumo_jax.estimators import BASELINES
from grumo_jax.evaluation import PROTOCOLS, evaluate
from grumo_jax.evaluation.checkpoints import describe_checkpoints, load_members
from grumo_jax.report import Column, Summary, Table, summarize, write_report
from grumo_jax.report.summary import FEWEST
from grumo_jax.report.table import Value

BASE_MODELS = ("Post", "Log", "Self", "Repr", "Drop")
ENSEMBLES = {"Boot": "Post", "Boot+Log": "Log"}
"""{ensemble: the base model of its members}"""
MEASURES = {
    "abs_rel": "errors.abs_rel",
    "AUSE": "ause.abs_rel",
    "AURG": "aurg.abs_rel",
    "AUSE rmse": "ause.rmse",
    "AURG rmse": "aurg.rmse",
}
"""{heading: path in a summary} of the columns for all pixels."""


@dataclass(frozen=True)
class Entry:
    """What is evaluated in one go.

    Attributes:
        base_model: its name in the table.
        seed: of the training; 0 for ensembles.
        checkpoints: one, or the members of an ensemble.
    """

    base_model: str
    seed: int
    checkpoints: tuple[Path, ...]

    @property
    def folder(self) -> str:
        """Name of the folder of its results; an ensemble of more members gets another one."""
        members = f"_of_{len(self.checkpoints)}" if self.base_model in ENSEMBLES else ""
        return f"{self.base_model}_{self.seed}{members}"


def numbered(folder: Path, name: str) -> list[tuple[int, Path]]:
    """The entries of a folder that are called `name_NUMBER`, by their numbers."""
    found = [(re.fullmatch(rf"{name}_(\d+)", path.name), path) for path in folder.iterdir()]
    return sorted((int(match[1]), path) for match, path in found if match)


def find_entries(runs: Path) -> list[Entry]:
    """Everything there is to evaluate among the runs.

    Raises:
        GrumoError: if there is nothing.
    """
    found = []
    for name in BASE_MODELS:
        for seed, run in numbered(runs, name):
            if (run / "model").is_dir():
                found.append(Entry(name, seed, (run / "model",)))
    for name, member in ENSEMBLES.items():
        members = tuple(
            c for entry in found if entry.base_model == member for c in entry.checkpoints
        )
        if len(members) > 1:
            found.append(Entry(name, 0, members))
    for seed, run in numbered(runs, "Snap"):
        snapshots = tuple(snapshot for _, snapshot in numbered(run, "snapshot"))
        if len(snapshots) > 1:
            found.append(Entry("Snap", seed, snapshots))
    if not found:
        raise GrumoError(
            f"{runs}: no trained network; experiments/train_synthetic.py writes Post_0 and others"
        )
    return found


def open_clips(data_dir: Path, split: str, limit: int | None) -> Source:
    """Clips that were prepared: all, or so many at even distances.

    Raises:
        GrumoError: if there are none, or none are asked for.
    """
    return at_most(open_prepared("synthetic", data_dir, split), limit)


def evaluate_entry(entry: Entry, source: Source, out: Path) -> Summary:
    """Evaluate all estimators of one training, or go on with it."""
    print(f"{entry.base_model}, seed {entry.seed}: {len(source)} images", file=sys.stderr)
    model, variables = load_members(list(entry.checkpoints))
    estimators = methods(entry.base_model, model)
    results = evaluate(
        with_baselines(estimators, model, len(entry.checkpoints)),
        variables,
        source,
        out / entry.folder / "results.jsonl",
        protocol=PROTOCOLS["median"],
        about={
            "base_model": entry.base_model,
            "checkpoint": describe_checkpoints(list(entry.checkpoints)),
        },
        progress=sys.stderr.isatty(),
    )
    return summarize(results)


def measures_of(summary: Summary, estimator: str) -> dict[str, float]:
    """The numbers of one row and one seed, by the heading of their column."""
    found = summary.estimators[estimator]
    values = {heading: found.means[path] for heading, path in MEASURES.items()}
    for region in REGIONS:
        means = found.regions[region].means if region in found.regions else {}
        values[f"{region} AUSE"] = means.get("ause.abs_rel", float("nan"))
        values[f"{region} AURG"] = means.get("aurg.abs_rel", float("nan"))
    return values


def rows_of(
    by_model: Mapping[str, Sequence[Summary]],
) -> Iterator[tuple[str, str, dict[str, np.ndarray]]]:
    """Base model, estimator, and {heading: values of all seeds}."""
    for name, summaries in by_model.items():
        for estimator in summaries[0].estimators:
            seeds = [measures_of(summary, estimator) for summary in summaries]
            yield name, estimator, {key: np.array([s[key] for s in seeds]) for key in seeds[0]}


def leaderboard(by_model: Mapping[str, Sequence[Summary]], source: Source) -> tuple[Table, Table]:
    """For people, mean ± standard deviation in one cell; and for machines, in two."""
    people, machines = list[list[Value]](), list[list[Value]]()
    headings = list[str]()
    for name, estimator, values in rows_of(by_model):
        headings = list(values)
        seeds = len(next(iter(values.values())))
        spread = {heading: spread_of(of_seeds) for heading, of_seeds in values.items()}
        mean = {k: float(np.mean(v)) for k, v in values.items()}
        people.append([name, estimator, seeds, *(_cell(mean[k], spread[k]) for k in headings)])
        both = (x for k in headings for x in (mean[k], spread[k]))
        machines.append([name, estimator, seeds, *both])
    head = (Column("base model"), Column("estimator"), Column("trainings"))
    notes = [
        f"Means over {len(source)} clips of {source.name}; ± standard deviation over trainings.",
        "AUSE (lower is better) and AURG (higher is better) of abs_rel unless rmse is named.",
        _count_regions(next(iter(by_model.values()))[0]),
    ]
    columns = [Column(heading) for heading in headings]
    doubled = [Column(f"{h}{part}") for h in headings for part in ("", " sd")]
    title = "Leaderboard of the synthetic world"
    return (
        Table(title, (*head, *columns), people, notes, name="leaderboard"),
        Table(title, (*head, *doubled), machines, name="leaderboard"),
    )


def _count_regions(summary: Summary) -> str:
    found = next(iter(summary.estimators.values())).regions
    images = {region: found[region].images if region in found else 0 for region in REGIONS}
    counts = ", ".join(f"{region} {number}" for region, number in images.items())
    return f"Regions: clips with {FEWEST} pixels or more in them, that is {counts}."


def spread_of(values: np.ndarray) -> float:
    """Standard deviation over trainings; NaN for a single one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _cell(mean: float, spread: float) -> str:
    if np.isnan(mean):
        return ""
    return f"{mean:.3f}" if np.isnan(spread) else f"{mean:.3f} ± {spread:.3f}"


def draw(by_model: Mapping[str, Sequence[Summary]], path: Path) -> None:
    """AURG of abs_rel by estimator, of all pixels and of each region; a panel per base model."""
    shown = [name for name in by_model if len(by_model[name][0].estimators) > 1]
    if not shown:
        return
    figure = Figure(figsize=(11, 2.4 * len(shown) + 0.6), layout="constrained")
    axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    headings = ["AURG", *(f"{region} AURG" for region in REGIONS)]
    # The AURG of a constant is 0 but for the last step.
    rows = [row for row in rows_of(by_model) if row[0] in shown and row[1] != "constant"]
    colors = _colors(estimator for _, estimator, _ in rows)
    for axis, name in zip(axes, shown, strict=True):
        mine = [(estimator, values) for model, estimator, values in rows if model == name]
        width = 0.9 / len(mine)
        for i, (estimator, values) in enumerate(mine):
            means = [np.mean(values[h]) for h in headings]
            errors = [spread_of(values[h]) for h in headings]
            places = np.arange(len(headings)) + (i - len(mine) / 2 + 0.5) * width
            axis.bar(places, means, width, yerr=errors, color=colors[estimator])
        axis.axhline(0, color="black", linewidth=0.8)
        axis.set_ylabel(f"{name}\nAURG abs_rel ↑")
    narrow: dict[str, Any] = {"frameon": False, "handlelength": 1.2, "columnspacing": 1.2}
    handles = [Patch(color=color, label=estimator) for estimator, color in colors.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=10, **narrow)
    axes[-1].set_xticks(range(len(headings)), ["all pixels", *REGIONS])
    write_atomically(path, lambda stream: figure.savefig(stream, format="png", dpi=110))


def _colors(estimators: Iterable[str]) -> dict[str, str]:
    """A colour for each method, the same in all panels, and grays for the baselines."""
    names = list(dict.fromkeys(estimators))
    methods = [name for name in names if name not in BASELINES]
    baselines = [name for name in names if name in BASELINES]
    grays = {name: f"{0.3 + 0.2 * i:.1f}" for i, name in enumerate(baselines)}
    return {name: f"C{i}" for i, name in enumerate(methods)} | grays


def main() -> None:
    """Evaluate, and write the leaderboard."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data-dir", type=Path, required=True, help="where the world is prepared")
    parser.add_argument("--runs", type=Path, required=True, help="trained networks")
    parser.add_argument("--out", type=Path, default=Path("results/synthetic"))
    parser.add_argument("--split", default="street/test")
    parser.add_argument("--limit", type=int, help="evaluate so many clips, at even distances")
    options = parser.parse_args()
    with mistakes_in_one_sentence():
        entries = find_entries(options.runs)
        source = open_clips(options.data_dir, options.split, options.limit)
        by_model: dict[str, list[Summary]] = {}
        for entry in entries:
            summary = evaluate_entry(entry, source, options.out)
            by_model.setdefault(entry.base_model, []).append(summary)
        people, machines = leaderboard(by_model, source)
        write_text(options.out / "leaderboard.md", people.to_markdown())
        write_text(options.out / "leaderboard.csv", machines.to_csv())
        draw(by_model, options.out / "leaderboard.png")
        page, _ = write_report(options.out, [summaries[0] for summaries in by_model.values()])
        print(people.to_markdown())
        print(f"report: {page.resolve()}")


if __name__ == "__main__":
    main()
