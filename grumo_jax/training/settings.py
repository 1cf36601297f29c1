"""Everything that decides what a training run gives, as one frozen dataclass."""

import dataclasses
import json
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from grumo_jax._internal.sealed import parse_json
from grumo_jax.errors import GrumoError
from grumo_jax.networks.resnet import BLOCKS_PER_STAGE
from grumo_jax.training.objectives import Resolution, Space, Supervision

BaseModel = Literal["plain", "log", "self", "repr", "drop", "boot", "snap"]
Schedule = Literal["constant", "step", "cosine", "cyclic"]
Motion = Literal["network", "alignment"]


@dataclass(frozen=True)
class Settings:
    """What a training run's result depends on, apart from the data and the machine.

    Values are checked when it is made. `PRESETS` holds those of the papers.

    Attributes:
        dataset, train_split, validation_split: what `grumo train` opens; `train` itself is
            given its sources.
        supervision: "mono" (neighbouring frames), "stereo" (the other camera), "mono_stereo"
            (both), or "depth" (ground truth in metres).
        base_model: how the network is to know its uncertainty: "plain" (not at all, or by post
            hoc methods), "log", "self" and "repr" (a second head), "drop" (dropout), "boot"
            (one of several trainings), "snap" (cyclic learning rate, of which snapshots are kept).
        size: (height, width) of the input, multiples of 32; pictures are resized to it.
        half_and_crop: first take the centre 224×288 of the half-size picture, as for NYU.
        num_layers, encoder_widths, decoder_widths, min_depth, max_depth: as of `Monodepth2`.
        dropout_rate: of the base model "drop".
        initial_depth: the depth predicted before training, in the network's units; None leaves
            the output head at zero.
        motion: where the camera's motion between frames comes from: "network", a pose network
            that is trained along, as in the papers; or "alignment" of the pictures by the depth
            predicted so far (see `align_views`), which needs no training.
        initial_motion: how far the camera is first taken to move ahead, from a frame to the next,
            in the depth network's units: by the pose network before training, or by alignment
            before it starts. Cameras of cars move ahead; where nothing says so, a training
            without pretrained encoders may settle in a world that is turned inside out, through
            which they reverse.
        pose_layers, pose_encoder_widths, pose_width: as of `PoseNetwork`.
        bfloat16: compute in bfloat16; parameters, BatchNorm and losses stay float32.
        batch_size: images of a step, of all devices together.
        epochs: times every image is seen.
        steps: number of steps instead of `epochs`.
        learning_rate: the highest.
        schedule: "constant"; "step": times `decay_factor` after the share `decay_at` of all
            steps; "cosine" to zero; "cyclic": cosine to zero `cycles` times (base model "snap").
        warmup_steps: steps in which the learning rate rises from zero (not with "cyclic").
        decay_at, decay_factor, cycles: see `schedule`.
        snapshots: networks kept of the last cycles.
        weight_decay: of AdamW; 0 is Adam.
        gradient_clip: largest norm of all gradients together; None for no limit.
        average_decay: export the exponential moving average, with this decay, of the network's
            variables; None exports the last ones.
        statistics_batches: batches over which BatchNorm's statistics are taken anew at the end;
            0 keeps the running averages, which look back on about ten batches.
        smoothness_weight, auto_mask, resolution, space: as of `Objective`.
        flip: probability of mirroring.
        jitter: probability of changing the colours of an image.
        brightness, contrast, saturation, hue: largest changes of colours.
        zoom: (least, most) enlargement; depth is divided by it.
        rotation_degrees: largest rotation.
        seed: 0 … 2³² − 1, of weights, order, augmentation and dropout.

    Raises:
        GrumoError: for a value of the wrong type or out of range.

    Example:
        >>> Settings(supervision="stereo", steps=100).learning_rate
        0.0001
        >>> Settings(supervision="lidar")
        Traceback (most recent call last):
        ...
        grumo_jax.errors.GrumoError: the setting supervision is 'lidar'; expected one of mono, \
stereo, mono_stereo, depth
    """

    supervision: Supervision = "mono"
    base_model: BaseModel = "plain"
    dataset: str = "kitti"
    train_split: str = "eigen_zhou/train"
    validation_split: str | None = "eigen_zhou/val"
    size: tuple[int, int] = (192, 640)
    half_and_crop: bool = False
    num_layers: int = 18
    encoder_widths: tuple[int, ...] = (64, 64, 128, 256, 512)
    decoder_widths: tuple[int, ...] = (16, 32, 64, 128, 256)
    min_depth: float = 0.1
    max_depth: float = 100.0
    dropout_rate: float = 0.2
    initial_depth: float | None = None
    motion: Motion = "network"
    initial_motion: float = 0.0
    pose_layers: int = 18
    pose_encoder_widths: tuple[int, ...] = (64, 64, 128, 256, 512)
    pose_width: int = 256
    bfloat16: bool = False
    batch_size: int = 12
    epochs: float = 20.0
    steps: int | None = None
    learning_rate: float = 1e-4
    schedule: Schedule = "step"
    warmup_steps: int = 0
    decay_at: float = 0.75
    decay_factor: float = 0.1
    cycles: int = 20
    snapshots: int = 8
    weight_decay: float = 0.0
    gradient_clip: float | None = None
    average_decay: float | None = None
    statistics_batches: int = 0
    smoothness_weight: float = 1e-3
    auto_mask: bool = True
    resolution: Resolution = "full"
    space: Space = "depth"
    flip: float = 0.5
    jitter: float = 0.5
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    hue: float = 0.1
    zoom: tuple[float, float] = (1.0, 1.0)
    rotation_degrees: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name, kind in _TYPES.items():
            object.__setattr__(self, name, _as_type(name, kind, getattr(self, name)))
        _check_ranges(self)

    @property
    def predicts_uncertainty(self) -> bool:
        """Whether the network has a second head."""
        return self.base_model in ("log", "self", "repr")

    def number_of_steps(self, images: int) -> int:
        """Steps of a run on so many images."""
        if self.steps is not None:
            return self.steps
        return max(1, round(self.epochs * images / self.batch_size))

    def replace(self, changes: Mapping[str, Any]) -> "Settings":
        """A copy with some settings changed; text is read as values of the command line are.

        Args:
            changes: {name: value, or its text}. `epochs` take the place of `steps`.

        Raises:
            GrumoError: for a name that does not exist, or a value that cannot be.

        Example:
            >>> Settings().replace({"size": "96,320", "gradient_clip": "1", "seed": 3}).size
            (96, 320)
            >>> Settings().replace({"lr": "1"})
            Traceback (most recent call last):
            ...
            grumo_jax.errors.GrumoError: there is no setting 'lr'; there are: supervision, ...
        """
        for name in changes:
            if name not in _TYPES:
                raise GrumoError(f"there is no setting {name!r}; there are: {', '.join(_TYPES)}")
        values = {
            name: _read(value) if isinstance(value, str) else value
            for name, value in changes.items()
        }
        if "epochs" in values:
            values = {"steps": None, **values}
        return dataclasses.replace(self, **values)

    def to_json(self) -> dict[str, Any]:
        """All settings as JSON has them: tuples are lists."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def parse_changes(assignments: Iterable[str]) -> dict[str, str]:
    """Split texts `name=value`.

    Raises:
        GrumoError: for a text of another form.

    >>> parse_changes(["seed=3", "size = 96,320"])
    {'seed': '3', 'size': '96,320'}
    """
    changes = {}
    for text in assignments:
        name, sign, value = text.partition("=")
        if not sign or not name.strip() or not value.strip():
            raise GrumoError(f"{text!r} is no setting; expected name=value, such as seed=3")
        changes[name.strip()] = value.strip()
    return changes


_TYPES: dict[str, Any] = {
    field.name: get_type_hints(Settings)[field.name] for field in dataclasses.fields(Settings)
}


def _read(text: str) -> Any:
    """A value from its text: JSON, numbers with commas between them, none, or the text itself.

    >>> [_read(text) for text in ("1e-3", "true", "none", "8,8", "mono")]
    [0.001, True, None, [8, 8], 'mono']
    """
    if text.lower() in ("none", "true", "false"):
        return {"none": None, "true": True, "false": False}[text.lower()]
    inner = text.strip().removeprefix("(").removesuffix(")")
    for candidate in (text, f"[{inner}]" if "," in text else text):
        try:
            return parse_json(candidate.encode(errors="surrogateescape"))
        except ValueError:
            continue
    return text


def _as_type(name: str, kind: Any, value: Any) -> Any:
    """Check a value, and make tuples of lists and floats of whole numbers."""
    result = _convert(kind, value)
    if result is _WRONG:
        raise GrumoError(f"the setting {name} is {value!r}; expected {_describe(kind)}")
    return result


_WRONG = object()


def _convert(kind: Any, value: Any) -> Any:
    if isinstance(kind, types.UnionType):
        results = (_convert(option, value) for option in get_args(kind))
        return next((result for result in results if result is not _WRONG), _WRONG)
    if kind is types.NoneType:
        return None if value is None else _WRONG
    if get_origin(kind) is Literal:
        return value if value in get_args(kind) else _WRONG
    if get_origin(kind) is tuple:
        return _convert_tuple(get_args(kind), value)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value if type(value) is kind else _WRONG


def _convert_tuple(kinds: tuple[Any, ...], value: Any) -> Any:
    if not isinstance(value, list | tuple):
        return _WRONG
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        return _WRONG
    results = tuple(_convert(k, v) for k, v in zip(kinds, value, strict=True))
    return _WRONG if any(result is _WRONG for result in results) else results


def _describe(kind: Any) -> str:
    if isinstance(kind, types.UnionType):
        return " or ".join(map(_describe, get_args(kind)))
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        number = "" if inner[-1] is Ellipsis else f"{len(inner)} "
        return f"{number}numbers with commas between them"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a name"}
    return names.get(kind, "none")


_RANGES: tuple[tuple[str, Callable[[Any], bool], str], ...] = (
    (
        "decay_at flip jitter brightness contrast saturation",
        lambda x: 0 <= x <= 1,
        "0 to 1",
    ),
    ("dropout_rate", lambda x: 0 <= x < 1, "at least 0 and less than 1"),
    ("hue", lambda x: 0 <= x <= 0.5, "0 to 0.5"),
    ("rotation_degrees", lambda x: 0 <= x <= 180, "0 to 180"),
    (
        "num_layers pose_layers",
        lambda x: x in BLOCKS_PER_STAGE,
        f"one of {', '.join(map(str, BLOCKS_PER_STAGE))}",
    ),
    (
        "batch_size epochs steps learning_rate decay_factor gradient_clip cycles snapshots "
        "pose_width min_depth max_depth initial_depth",
        lambda x: 0 < x < float("inf"),
        "more than 0",
    ),
    (
        "initial_motion warmup_steps weight_decay statistics_batches smoothness_weight",
        lambda x: 0 <= x < float("inf"),
        "0 or more",
    ),
    ("average_decay", lambda x: 0 < x < 1, "more than 0 and less than 1"),
    ("seed", lambda x: 0 <= x < 2**32, "0 to 4294967295"),
    ("size", lambda x: all(n > 0 and n % 32 == 0 for n in x), "multiples of 32"),
    ("zoom", lambda x: 1 <= x[0] <= x[1] < float("inf"), "(least, most), at least 1"),
    (
        "encoder_widths decoder_widths pose_encoder_widths",
        lambda x: len(x) == 5 and min(x) > 0,
        "five widths",
    ),
)


def _check_ranges(s: Settings) -> None:
    for names, fits, expected in _RANGES:
        for name in names.split():
            value = getattr(s, name)
            if value is not None and not fits(value):
                raise GrumoError(f"the setting {name} is {value}; expected {expected}")
    if s.max_depth <= s.min_depth:
        raise GrumoError(f"max_depth is {s.max_depth}; expected more than min_depth, {s.min_depth}")
    if s.half_and_crop and s.supervision != "depth":
        raise GrumoError("half_and_crop is for supervision=depth; cameras do not follow the crop")
    if s.rotation_degrees and s.supervision != "depth":
        raise GrumoError("rotation_degrees is for supervision=depth; views do not turn with it")
    depth = s.initial_depth if s.supervision != "depth" else None
    if depth is not None and not s.min_depth < depth < s.max_depth:
        raise GrumoError(
            f"initial_depth is {depth}; expected between min_depth, {s.min_depth}, and "
            f"max_depth, {s.max_depth}"
        )
    if s.snapshots > s.cycles:
        raise GrumoError(f"there are {s.cycles} cycles, too few to keep {s.snapshots} snapshots")
    if (s.schedule == "cyclic") != (s.base_model == "snap"):
        raise GrumoError(
            f"the schedule {s.schedule} does not go with the base model {s.base_model}: snapshots, "
            "and nothing else, are trained with schedule=cyclic"
        )
