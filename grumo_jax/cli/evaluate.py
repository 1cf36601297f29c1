"""`grumo evaluate`: from a checkpoint and a data set to tables and a report."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from grumo_jax._internal.hosts import is_first, join
from grumo_jax.cli.ground_truth import (
    BatchSizeOption,
    DataDirOption,
    DatasetOption,
    DepthDirOption,
    DepthScaleOption,
    LimitOption,
    PairOption,
    Png16Option,
    ProtocolOption,
    SeedOption,
    SplitOption,
    check_folder,
    choose_protocol,
    open_with_depth,
    report_problems,
)
from grumo_jax.cli.messages import say, say_table
from grumo_jax.cli.options import HostsOption, WorkersOption
from grumo_jax.errors import GrumoError
from grumo_jax.estimators import (
    BASELINES,
    Ensemble,
    Estimator,
    named_estimator,
)
from grumo_jax.networks.network import as_network

RESULTS = "results.jsonl"


def evaluate(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(help="Checkpoint directory; several are evaluated as one ensemble."),
    ],
    dataset: DatasetOption,
    data_dir: DataDirOption,
    protocol: ProtocolOption,
    out: Annotated[Path, typer.Option(help="Folder for results and report.")] = Path("evaluation"),
    split: SplitOption = None,
    estimator: Annotated[
        list[str] | None,
        typer.Option(help="As in `grumo predict`; may be repeated. All that apply by default."),
    ] = None,
    baselines: Annotated[
        bool, typer.Option(help="Evaluate what any score must beat, too: depth, row, …")
    ] = True,
    base_model: Annotated[
        str | None, typer.Option(help="Name in tables; the checkpoint's by default.")
    ] = None,
    depth_dir: DepthDirOption = None,
    depth_scale: DepthScaleOption = 256,
    pair: PairOption = "name",
    limit: LimitOption = None,
    batch_size: BatchSizeOption = None,
    pictures: Annotated[
        int, typer.Option(min=0, help="Draw so many of the best and worst images.")
    ] = 2,
    png16: Png16Option = False,
    seed: SeedOption = 0,
    workers: WorkersOption = 2,
    hosts: HostsOption = None,
) -> None:
    """Evaluate a network and its uncertainties on a data set, and write a report.

    A line for each image goes to OUT/results.jsonl at once. Interrupted? Give the command again:
    it continues, and ends with the same file. Images that cannot be read are named and counted;
    the exit status is then 1.

    Example: grumo evaluate checkpoints/mono --dataset kitti --data-dir kitti_raw --split
    eigen_benchmark --protocol kitti-mono
    """
    # Importing these takes time that other commands need not spend.
    from grumo_jax.evaluation.checkpoints import describe_checkpoints, load_members
    from grumo_jax.evaluation.evaluate import Run
    from grumo_jax.report.pictures import draw_pictures

    check_folder(out, "ablation.jsonl")
    if hosts:
        join(hosts)
    chosen = choose_protocol(protocol, dataset, png16)
    source = open_with_depth(dataset, data_dir, split, depth_dir, depth_scale, pair, limit)
    model, variables = load_members(checkpoints)
    estimators = choose_estimators(model, estimator, baselines, ensemble=len(checkpoints) > 1)
    run = Run.of(estimators, variables, source, chosen, batch_size=batch_size, seed=seed)
    about = {
        "base_model": base_model or checkpoints[0].resolve().name,
        "checkpoint": describe_checkpoints(checkpoints),
    }
    progress = sys.stderr.isatty()
    results = run.to_file(out / RESULTS, about, workers=workers, progress=progress)
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
    """Estimators by name: those asked for, or all that apply to the network.

    Args:
        model: the network.
        names: as `named_estimator` knows them; None for all that apply.
        baselines: add the baselines.
        ensemble: the variables are of several networks.
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
