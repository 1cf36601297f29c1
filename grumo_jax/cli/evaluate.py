"""`grumo evaluate`: from a checkpoint and a data set to tables and a report."""

from pathlib import Path
from typing import Annotated, Any

import typer

from grumo_jax._internal.hosts import is_first
from grumo_jax.cli.measuring import MeasuringOptions, report_problems
from grumo_jax.cli.messages import say, say_table
from grumo_jax.cli.options import with_options
from grumo_jax.errors import GrumoError
from grumo_jax.estimators import (
    BASELINES,
    Ensemble,
    Estimator,
    named_estimator,
)
from grumo_jax.networks.network import as_network

RESULTS = "results.jsonl"


@with_options
def evaluate(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(help="Checkpoint directory; several are evaluated as one ensemble."),
    ],
    *,
    out: Annotated[Path, typer.Option(help="Folder for results and report.")] = Path("evaluation"),
    estimator: Annotated[
        list[str] | None,
        typer.Option(help="As in `grumo predict`; may be repeated. All that apply by default."),
    ] = None,
    baselines: Annotated[
        bool, typer.Option(help="Evaluate what any score must beat, too: depth, row, …")
    ] = True,
    pictures: Annotated[
        int, typer.Option(min=0, help="Draw so many of the best and worst images.")
    ] = 2,
    options: MeasuringOptions,
) -> None:
    """Evaluate a network and its uncertainties on a data set, and write a report.

    A line for each image goes to OUT/results.jsonl at once. Interrupted? Give the command again:
    it continues, and ends with the same file. Images that cannot be read are named and counted;
    the exit status is then 1.

    Example: grumo evaluate checkpoints/mono --dataset kitti --data-dir kitti_raw --split
    eigen_benchmark --protocol kitti-mono
    """
    # Slow imports, which other commands do not need.
    from grumo_jax.evaluation.evaluate import Run
    from grumo_jax.report.pictures import draw_pictures

    opened = options.open(checkpoints, out, "ablation.jsonl")
    ensemble = len(checkpoints) > 1
    estimators = choose_estimators(opened.model, estimator, baselines, ensemble=ensemble)
    run = Run.of(estimators, opened.variables, opened.source, opened.protocol, **opened.options)
    results = run.to_file(out / RESULTS)
    if not is_first():
        return
    drawn = [name for name in estimators if name not in BASELINES] or list(estimators)
    draw_pictures(run, results, pictures, drawn)
    _report(results, out)


def _report(results: Any, out: Path) -> None:
    """Write the report, print its main table, and name the images that were left out."""
    from grumo_jax.report import summarize, write_report

    summary = summarize(results)
    page, tables = write_report(out, [summary])
    say_table(tables[0].to_markdown())
    say(f"report: {page.resolve()}")
    report_problems(summary.problems, len(summary.empty), len(summary.images), results.path)


def choose_estimators(
    model: Any, names: list[str] | None, baselines: bool, *, ensemble: bool = False
) -> dict[str, Estimator]:
    """{name: estimator}: those asked for, or all that apply to the network.

    Args:
        model: the network.
        names: of `named_estimator`; None for all that apply.
        baselines: add the baselines.
        ensemble: whether the variables are stacked, of several networks.
    """
    if ensemble:
        if names not in (None, ["ensemble"]):
            raise GrumoError(
                "several checkpoints are evaluated as one ensemble; give one for other estimators"
            )
        return {"ensemble": Ensemble(model)}
    network = as_network(model)
    if names is None:
        names = ["grad", "grad-averaged", "post", "var", "in-drop"]
        names += ["learned"] * (network.log_sigma is not None)
        names += ["drop"] * bool(network.dropout_rate)
    names = list(dict.fromkeys([*names, *(BASELINES if baselines else ())]))
    return {name: named_estimator(name, model) for name in names}
