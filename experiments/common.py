"""What the experiments share: options, networks, data, evaluation, and the files they write.

An experiment is one table: the papers' methods for each base model that is there, evaluated in
one go, so that they share the network's passes, and a folder with tables, curves and a page.
"""

import argparse
import dataclasses
import math
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from settings_plot import draw_settings

from grumo_jax import shipped_checkpoint
from grumo_jax._internal.atomic_writes import write_atomically
from grumo_jax.cli.messages import one_sentence
from grumo_jax.data import Part, Source, at_most, open_source
from grumo_jax.errors import GrumoError
from grumo_jax.estimators import BASELINES, Ensemble, Estimator, named_estimator
from grumo_jax.evaluation import PROTOCOLS, Protocol, evaluate
from grumo_jax.evaluation.checkpoints import describe_checkpoints, load_members
from grumo_jax.networks.network import as_network
from grumo_jax.report import Published, Summary, Table, gain_table, summarize, write_report
from grumo_jax.synthetic.layouts import write_kitti, write_nyu

Estimators = Mapping[str, Estimator]
SPLITS = {"kitti": "eigen_benchmark", "nyu": "val"}
"""{data set: the split that the papers evaluate}"""
BASE_MODELS = ("Post", "Log", "Self", "Drop", "Boot")
"""Names of the checkpoints that are looked for; the last two need trainings of their own."""
SAID = "Post, Log, Self, Drop or Boot_0, Boot_1, …"
"""The same in words."""
GENERATED_IMAGES = 8


@dataclass(frozen=True)
class Experiment:
    """One table.

    Attributes:
        about: the file's docstring, whose first line is the title.
        protocol: name of the papers' protocol.
        published: the papers' numbers, for official data and weights.
    """

    about: str
    protocol: str
    published: Published = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The first line of the docstring."""
        return self.about.splitlines()[0]


def run(experiment: Experiment, arguments: Sequence[str] | None = None) -> Path:
    """Run an experiment from the command line and return the folder of what it wrote."""
    options = parse(experiment, arguments)
    with mistakes_in_one_sentence():
        return run_with(experiment, options)


@contextmanager
def mistakes_in_one_sentence() -> Iterator[None]:
    """End the program with a sentence where something is wrong with what it was given."""
    try:
        yield
    except (GrumoError, OSError) as error:
        print(one_sentence(error), file=sys.stderr)
        sys.exit(2)


def run_with(experiment: Experiment, options: argparse.Namespace) -> Path:
    """Evaluate every base model that is there, and write tables, curves and a page.

    Raises:
        GrumoError: if there is not one network, or no data.
    """
    protocol = choose_protocol(experiment, options)
    networks, missing = find_networks(options)
    source = open_data(protocol, options)
    summaries = []
    for name, paths in networks.items():
        print(f"{name}: {len(source)} images", file=sys.stderr)
        model, variables = load_members(paths)
        results = evaluate(
            with_baselines(methods(name, model), model, len(paths)),
            variables,
            source,
            options.out / name / "results.jsonl",
            protocol=protocol,
            about={"base_model": name, "checkpoint": describe_checkpoints(paths)},
            batch_size=options.batch_size,
            seed=options.seed,
            progress=sys.stderr.isatty(),
        )
        summaries.append(summarize(results))
    published = choose_published(experiment, options, summaries)
    page, tables = write_report(options.out, summaries, published=published)
    text = describe_run(experiment, summaries, missing, tables[0], published)
    write_text(options.out / "experiment.md", text)
    draw_settings(options.out / "settings.png", summaries)
    print(text)
    print(f"report: {page.resolve()}")
    return Path(options.out)


def parse(experiment: Experiment, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=experiment.title)
    add = parser.add_argument
    add("--data-dir", type=Path, help="what `grumo prepare` was given")
    add("--checkpoints", type=Path, help=f"folder of checkpoints called {SAID}")
    add("--generated", action="store_true", help="small generated data, the network that is here")
    add("--out", type=Path, help="folder for results; results/ and the file's name by default")
    add("--split", help="another split, such as velodyne for a few of KITTI's drives")
    add("--limit", type=int, help="evaluate so many images, at even distances")
    add("--official", action="store_true",
        help="data and weights are the official ones: round as the papers' programs do, and put "
        "published numbers beside ours")  # fmt: skip
    add("--batch-size", type=int, help="images at a time, of all devices together")
    add("--seed", type=int, default=0, help="of what estimators draw")
    options = parser.parse_args(arguments)
    if not options.generated and not (options.data_dir and options.checkpoints):
        parser.error("give --data-dir and --checkpoints, or --generated")
    if options.limit is not None and options.limit < 1:
        parser.error("--limit must be at least 1")
    if options.out is None:
        options.out = Path("results") / Path(sys.argv[0]).stem
    return options


def choose_protocol(experiment: Experiment, options: argparse.Namespace) -> Protocol:
    """The protocol; generated data are scaled by the median, whatever the network was made for."""
    protocol = PROTOCOLS[experiment.protocol]
    # The papers' programs pass KITTI's depth through 16-bit PNGs, and no other.
    rounded = options.official and dataset_of(protocol) == "kitti"
    protocol = dataclasses.replace(protocol, through_png16=rounded)
    if options.generated and protocol.scale != "median":
        name = f"{protocol.name} scaled by the median"
        protocol = dataclasses.replace(protocol, name=name, scale="median")
    return protocol


def dataset_of(protocol: Protocol) -> str:
    """The data set that a protocol is for."""
    return "nyu" if protocol.name.startswith("nyu") else "kitti"


def find_networks(options: argparse.Namespace) -> tuple[dict[str, list[Path]], list[str]]:
    """Checkpoints by base model, several for an ensemble, and the base models without any.

    A single member is no ensemble, and does not stand for one.

    Raises:
        GrumoError: if there is none at all.
    """
    if options.generated:
        return {"synthetic": [shipped_checkpoint("synthetic")]}, []
    found, missing = dict[str, list[Path]](), list[str]()
    for name in BASE_MODELS:
        path = options.checkpoints / name
        members = sorted(options.checkpoints.glob(f"{name}_[0-9]*"), key=member)
        if path.is_dir():
            found[name] = [path]
        elif len(members) > 1:
            found[name] = members
        else:
            missing += [f"{name} (only {file.name})" for file in members] or [name]
    if not found:
        raise GrumoError(
            f"{options.checkpoints}: no checkpoint called {SAID}; `grumo convert` "
            "makes them of PyTorch's weights"
        )
    return found, missing


def open_data(protocol: Protocol, options: argparse.Namespace) -> Source:
    """The images, under a name that tells generated and incomplete data from the real ones."""
    dataset = dataset_of(protocol)
    split, limit = options.split or SPLITS[dataset], options.limit
    if not options.generated:
        return at_most(open_source(dataset, options.data_dir, split), limit)
    number = limit or GENERATED_IMAGES
    folder = options.out / "generated" / f"{dataset}_{number}"
    if dataset == "nyu":
        write_nyu(folder, val=number)
    else:
        drives = max(min(number, 2), math.ceil(number / 8))
        write_kitti(folder, drives=drives, frames=math.ceil(number / drives))
    source = open_source(dataset, folder, split)
    return Part(source, min(number, len(source)), f"generated data in place of {source.name}")


def with_baselines(estimators: Estimators, model: Any, members: int = 1) -> dict[str, Estimator]:
    """Add what any score must beat; of an ensemble there is only the ensemble itself."""
    if members > 1:
        return {"ensemble": Ensemble(model)}
    return {**estimators, **{name: named_estimator(name, model) for name in BASELINES}}


def methods(name: str, model: Any) -> dict[str, Estimator]:
    """The papers' methods for one base model: its own uncertainty, and those made post hoc."""
    if name == "Drop":
        return {"drop": named_estimator("drop", model)}
    own = "post" if as_network(model).log_sigma is None else "learned"
    names = (own, "var", "in-drop", "grad", "grad-averaged")
    return {name: named_estimator(name, model) for name in names}


def choose_published(
    experiment: Experiment, options: argparse.Namespace, summaries: Sequence[Summary]
) -> Published | None:
    """The papers' numbers, where weights are official and data are, to the last image."""
    split = SPLITS[dataset_of(choose_protocol(experiment, options))]
    if not options.official or options.generated or options.limit:
        return None
    if options.split not in (None, split) or not all(map(is_whole, summaries)):
        return None
    names = {summary.base_model for summary in summaries}
    return {key: values for key, values in experiment.published.items() if key[0] in names}


def is_whole(summary: Summary) -> bool:
    """Whether every image of the split was there and could be evaluated."""
    return summary.finished and not summary.missing and not summary.problems


def describe_run(
    experiment: Experiment,
    summaries: Sequence[Summary],
    missing: Sequence[str],
    table: Table,
    published: Published | None,
) -> str:
    """The experiment in Markdown: what it is, what was used, the table, and the differences."""
    notes = [f"No checkpoint: {', '.join(missing)}."] if missing else []
    if not published:
        notes.append("Not all of the official data and weights, or no published numbers at hand.")
    parts = [f"# {experiment.title}", f"Command: `{shlex.join(sys.argv)}`"]
    parts.append(dataclasses.replace(table, notes=[*table.notes, *notes]).to_markdown())
    gain = gain_table(summaries, "grad")
    parts += [gain.to_markdown()] if gain else []
    return "\n\n".join(part.strip() for part in parts) + "\n"


def member(path: Path) -> int:
    """The number at the end of a member's name, such as Boot_7."""
    digits = path.name.rpartition("_")[2]
    return int(digits) if digits.isdigit() else sys.maxsize


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    write_atomically(path, lambda stream: stream.write(text.encode()))
