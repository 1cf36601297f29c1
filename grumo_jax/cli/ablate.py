"""`grumo ablate`: every setting of Grad over a data set, in one pass."""

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

RESULTS = "ablation.jsonl"


def ablate(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint directory.")],
    dataset: DatasetOption,
    data_dir: DataDirOption,
    protocol: ProtocolOption,
    out: Annotated[Path, typer.Option(help="Folder for results, tables and plots.")] = Path(
        "ablation"
    ),
    split: SplitOption = None,
    layer: Annotated[
        list[str] | None,
        typer.Option(help="Name, or number of a decoder convolution; all of these by default."),
    ] = None,
    combine: Annotated[
        list[str] | None,
        typer.Option(help="std, max, mean: all the layers together, beside each alone."),
    ] = None,
    reduction: Annotated[
        list[str] | None, typer.Option(help="max, sum, mean, norm; all by default.")
    ] = None,
    reference: Annotated[
        list[str] | None,
        typer.Option(
            help="flip, gray, noise, rotate, feature-dropout, feature-noise; the first four by "
            "default."
        ),
    ] = None,
    loss: Annotated[
        list[str] | None,
        typer.Option(
            help="squared: each reference by itself. variance: all references together. "
            "uncertainty: log σ alone. The first two by default."
        ),
    ] = None,
    space: Annotated[
        list[str] | None, typer.Option(help="depth (the default), log_depth, disparity.")
    ] = None,
    weight: Annotated[
        list[float] | None,
        typer.Option(help="Of log σ; 2 by default where the network predicts it."),
    ] = None,
    base_model: Annotated[
        str | None, typer.Option(help="Name in tables; the checkpoint's by default.")
    ] = None,
    depth_dir: DepthDirOption = None,
    depth_scale: DepthScaleOption = 256,
    pair: PairOption = "name",
    limit: LimitOption = None,
    batch_size: BatchSizeOption = None,
    png16: Png16Option = False,
    seed: SeedOption = 0,
    workers: WorkersOption = 2,
    hosts: HostsOption = None,
) -> None:
    """Measure every combination of layers, reductions, references and losses, in one pass.

    Options that are lists are repeated: --layer 6 --layer 8. Each image costs one forward pass for
    each reference and one backward pass for each loss, however many layers and reductions there
    are. Writes ablation.jsonl (a line for each image, continued after an interruption), tables.md,
    settings.csv with all settings, and heat maps of layers against losses and reductions.

    Example: grumo ablate checkpoints/mono --dataset kitti --data-dir kitti_raw --split
    eigen_benchmark --protocol kitti-mono --combine std
    """
    # Importing these takes time that other commands need not spend.
    from grumo_jax.ablation import ablate as run
    from grumo_jax.evaluation.checkpoints import describe_checkpoints
    from grumo_jax.networks.checkpoint import load_checkpoint
    from grumo_jax.report import summarize_ablation, write_ablation

    check_folder(out, "results.jsonl")
    if hosts:
        join(hosts)
    chosen = choose_protocol(protocol, dataset, png16)
    source = open_with_depth(dataset, data_dir, split, depth_dir, depth_scale, pair, limit)
    model, variables = load_checkpoint(checkpoint)
    options = {
        "layers": layer,
        "combinations": combine,
        "reductions": reduction,
        "references": reference and _named_references(reference),
        "losses": loss,
        "spaces": space,
        "uncertainty_weights": weight,
    }
    results = run(
        _grid(model, variables, chosen.size, options),
        model,
        variables,
        source,
        out / RESULTS,
        protocol=chosen,
        about={
            "base_model": base_model or checkpoint.resolve().name,
            "checkpoint": describe_checkpoints([checkpoint]),
        },
        batch_size=batch_size,
        seed=seed,
        workers=workers,
        progress=sys.stderr.isatty(),
    )
    if not is_first():
        return
    summary = summarize_ablation(results)
    say_table(write_ablation(out, summary)[0].to_markdown())
    say(f"all {summary.counts.size} settings: {(out / 'settings.csv').resolve()}")
    report_problems(summary.problems, summary.empty, summary.images, results.path)


def _named_references(names: list[str]) -> dict[str, Any]:
    from grumo_jax.references import NAMED_REFERENCES

    if unknown := [name for name in names if name not in NAMED_REFERENCES]:
        raise GrumoError(
            f"there is no reference {unknown[0]!r}; choose of {', '.join(NAMED_REFERENCES)}"
        )
    return {name: NAMED_REFERENCES[name] for name in names}


def _grid(model: Any, variables: Any, size: tuple[int, int], options: dict[str, Any]) -> Any:
    """The grid of the options that were given."""
    import jax

    from grumo_jax.ablation import Grid

    height, width = model.input_size or size
    images = jax.ShapeDtypeStruct((1, height, width, 3), "float32")
    given = {name: value for name, value in options.items() if value}
    return Grid.of(model, variables, images, **given)
