"""`grumo ablate`: every setting of Grad over a data set, in one pass."""

from pathlib import Path
from typing import Annotated, Any

import typer

from grumo_jax._internal.hosts import is_first
from grumo_jax.cli.measuring import MeasuringOptions, Opened, report_problems
from grumo_jax.cli.messages import say, say_table
from grumo_jax.cli.options import with_options
from grumo_jax.errors import GrumoError

RESULTS = "ablation.jsonl"


@with_options
def ablate(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint directory.")],
    *,
    out: Annotated[Path, typer.Option(help="Folder for results, tables and plots.")] = Path(
        "ablation"
    ),
    preset: Annotated[
        str | None,
        typer.Option(
            help="layers, reductions, references, losses, multi-layer: the papers' table of that "
            "name, in place of --layer to --weight."
        ),
    ] = None,
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
    options: MeasuringOptions,
) -> None:
    """Measure every combination of layers, reductions, references and losses, in one pass.

    Options that are lists are repeated: --layer 6 --layer 8. Each image costs one forward pass for
    each reference and one backward pass for each loss, however many layers and reductions there
    are. Writes ablation.jsonl (a line for each image, continued after an interruption), tables.md,
    settings.csv with all settings, and heat maps of layers against losses and reductions.

    Example: grumo ablate checkpoints/mono --dataset kitti --data-dir kitti_raw --split
    eigen_benchmark --protocol kitti-mono --combine std
    """
    # Slow imports, which other commands do not need.
    from grumo_jax.ablation import ablate as run
    from grumo_jax.report import summarize_ablation, write_ablation

    opened = options.open([checkpoint], out, "results.jsonl")
    choices = {
        "layers": layer,
        "combinations": combine,
        "reductions": reduction,
        "references": reference and _named_references(reference),
        "losses": loss,
        "spaces": space,
        "uncertainty_weights": weight,
    }
    given = {name: chosen for name, chosen in choices.items() if chosen}
    results = run(
        _grid(opened, preset, given),
        opened.model,
        opened.variables,
        opened.source,
        out / RESULTS,
        protocol=opened.protocol,
        **opened.options,
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


def _grid(opened: Opened, preset: str | None, given: dict[str, Any]) -> Any:
    """The preset's grid, or one of the given choices, as `Grid.of` takes them."""
    import jax

    from grumo_jax.ablation import Grid, preset_grid

    height, width = opened.model.input_size or opened.protocol.size
    images = jax.ShapeDtypeStruct((1, height, width, 3), "float32")
    place = opened.model, opened.variables, images
    if preset is None:
        return Grid.of(*place, **given)
    if given:
        raise GrumoError(f"--preset makes all choices; leave out your own of {', '.join(given)}")
    return preset_grid(preset, *place)
