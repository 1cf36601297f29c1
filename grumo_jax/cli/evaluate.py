"""`grumo evaluate`: from a checkpoint and a data set to tables and a report."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from grumo_jax.errors import GrumoError
from grumo_jax.estimators import (
    BASELINES,
    Ensemble,
    Estimator,
    named_estimator,
)
from grumo_jax.network import as_network

RESULTS = "results.jsonl"


def evaluate(
    checkpoints: Annotated[
        list[Path],
        typer.Argument(help="Checkpoint directory; several are evaluated as one ensemble."),
    ],
    dataset: Annotated[str, typer.Option(help="kitti, nyu, synthetic or folder.")],
    data_dir: Annotated[
        Path, typer.Option(help="What `grumo prepare` was given, or a folder of photos.")
    ],
    protocol: Annotated[
        str,
        typer.Option(
            help="kitti-mono: median scaling. kitti-stereo: times 5.4. nyu: metres. For data of "
            "one's own: median or metric."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for results and report.")] = Path("evaluation"),
    split: Annotated[
        str | None,
        typer.Option(
            help="kitti: eigen, eigen_benchmark or velodyne. nyu: val. synthetic: street/test."
        ),
    ] = None,
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
    depth_dir: Annotated[
        Path | None, typer.Option(help="folder: true depth, .npy or 16-bit .png of the same names.")
    ] = None,
    depth_scale: Annotated[
        float, typer.Option(help="folder: units of a depth PNG to the metre.")
    ] = 256,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images at a time, of all devices together.")
    ] = None,
    pictures: Annotated[
        int, typer.Option(min=0, help="Draw so many of the best and worst images.")
    ] = 2,
    png16: Annotated[
        bool, typer.Option(help="Round as the papers' programs do, which score 16-bit files.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="What estimators draw.")] = 0,
    workers: Annotated[int, typer.Option(min=0, help="Threads that read images ahead.")] = 2,
) -> None:
    """Evaluate a network and its uncertainties on a data set, and write a report.

    A line for each image goes to OUT/results.jsonl at once. Interrupted? Give the command again:
    it continues, and ends with the same file. Images that cannot be read are named and counted;
    the exit status is then 1.

    Example: grumo evaluate checkpoints/mono --dataset kitti --data-dir kitti_raw --split
    eigen_benchmark --protocol kitti-mono
    """
    # Importing these takes time that other commands need not spend.
    import dataclasses

    from grumo_jax.evaluation import named_protocol
    from grumo_jax.evaluation.checkpoints import describe_checkpoints, load_members
    from grumo_jax.evaluation.evaluate import Run
    from grumo_jax.evaluation.pictures import draw_pictures

    if out.exists() and not out.is_dir():
        raise GrumoError(f"{out}: a file; --out names a folder")
    chosen = dataclasses.replace(named_protocol(protocol), through_png16=png16)
    if dataset != "folder" and (dataset == "nyu") != (protocol == "nyu"):
        raise GrumoError(f"the protocol {protocol} is not for {dataset}; see --help")
    source = _open(dataset, data_dir, split, depth_dir, depth_scale)
    model, variables = load_members(checkpoints)
    estimators = choose_estimators(model, estimator, baselines, ensemble=len(checkpoints) > 1)
    run = Run.of(estimators, variables, source, chosen, batch_size=batch_size, seed=seed)
    about = {
        "base_model": base_model or checkpoints[0].resolve().name,
        "checkpoint": describe_checkpoints(checkpoints),
    }
    results = run.to_file(out / RESULTS, about, workers=workers, progress=sys.stderr.isatty())
    drawn = [name for name in estimators if name not in BASELINES] or list(estimators)
    draw_pictures(run, results, pictures, drawn)
    _report(results, out)


def _open(
    dataset: str, data_dir: Path, split: str | None, depth_dir: Path | None, depth_scale: float
) -> Any:
    """Open the data set, which must have ground truth."""
    from grumo_jax.data import open_source

    own: dict[str, Any] = {}
    if dataset == "folder":
        if split:
            raise GrumoError("--split is for kitti and nyu; a folder of photos has no splits")
        if depth_dir is None:
            raise GrumoError("a folder of photos needs its true depth: give --depth-dir")
        own = {"depth": depth_dir, "depth_scale": depth_scale}
    elif depth_dir:
        raise GrumoError(f"--depth-dir is for --dataset folder; {dataset} has its own depth")
    source = open_source(dataset, data_dir, split, **own)
    if not source.has_depth:
        raise GrumoError(f"{source.name} has no ground truth; evaluate another split")
    return source


def _report(results: Any, out: Path) -> None:
    """Write the report, print its main table, and name the images that were left out."""
    from grumo_jax.report import summarize, write_report

    summary = summarize(results)
    page, tables = write_report(out, [summary])
    print(tables[0].to_markdown())
    print(f"report: {page.resolve()}")
    for _, sentence in summary.problems:
        print(f"grumo: left out {sentence}", file=sys.stderr)
    if not summary.images:
        raise GrumoError("not one image could be measured; see the report for why")
    if summary.problems:
        advice = f"when they are mended, delete {results.path} and evaluate anew"
        print(f"grumo: {advice}", file=sys.stderr)
        raise typer.Exit(1)


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
