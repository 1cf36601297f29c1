"""Everything a training run's result depends on, as one frozen dataclass."""

import dataclasses
import functools
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from math import inf
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BeforeValidator, ConfigDict, ValidationError, ValidationInfo
from pydantic.dataclasses import dataclass

from grumo_jax._internal.sealed import parse_json
from grumo_jax.errors import GrumoError
from grumo_jax.networks.resnet import BLOCKS_PER_STAGE
from grumo_jax.training.objectives import ErrorSpace, Resolution, Supervision

_C = TypeVar("_C", bound=type)


def _range(expected: str, fits: Callable[[Any], bool]) -> AfterValidator:
    """A validator of a setting's values, with the words that its error names them by."""

    def check(value: Any, info: ValidationInfo) -> Any:
        if not fits(value):
            raise GrumoError(f"the setting {info.field_name} is {value}; expected {expected}")
        return value

    return AfterValidator(check)


_FROM_JSON = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
_POSITIVE = _range("more than 0", lambda x: 0 < x < inf)
_NOT_NEGATIVE = _range("0 or more", lambda x: 0 <= x < inf)

BaseModelName = Literal["plain", "log", "self", "repr", "drop", "boot", "snap"]
ScheduleName = Literal["constant", "step", "cosine", "cyclic"]
MotionSource = Literal["network", "alignment"]
Layers = Annotated[
    int, _range(f"one of {', '.join(map(str, BLOCKS_PER_STAGE))}", BLOCKS_PER_STAGE.__contains__)
]
Widths = Annotated[
    tuple[int, ...], _FROM_JSON, _range("five widths", lambda x: len(x) == 5 and min(x) > 0)
]
Share = Annotated[float, _range("0 to 1", lambda x: 0 <= x <= 1)]
InnerShare = Annotated[float, _range("more than 0 and less than 1", lambda x: 0 < x < 1)]
PositiveInt = Annotated[int, _POSITIVE]
PositiveFloat = Annotated[float, _POSITIVE]
Count = Annotated[int, _NOT_NEGATIVE]
Amount = Annotated[float, _NOT_NEGATIVE]


def _in_one_sentence(cls: _C) -> _C:
    """Make a pydantic dataclass raise a `GrumoError` for the first invalid value.

    A wrong call, such as with an unknown name, stays a `TypeError`.
    """
    kind: Any = cls
    init = kind.__init__
    signature = inspect.signature(cls)

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **kwargs: Any) -> None:
        given = signature.bind(*args, **kwargs).arguments
        try:
            init(self, **given)
        except ValidationError as error:
            raise _explain(error, given) from None

    kind.__init__ = checked
    return cls


def _explain(error: ValidationError, given: Mapping[str, Any]) -> GrumoError:
    first = error.errors()[0]
    if isinstance(ours := first.get("ctx", {}).get("error"), GrumoError):
        return ours
    name = str(first["loc"][0])
    return GrumoError(f"the setting {name} is {given[name]!r}; expected {_describe(_TYPES[name])}")


@_in_one_sentence
@dataclass(frozen=True, config=ConfigDict(strict=True))
class Settings:
    """What a training run's result depends on, apart from the data and the machine.

    Values are checked on construction. `PRESETS` holds those of the papers.

    Attributes:
        dataset, train_split, validation_split: what `grumo train` opens; `train` itself gets
            sources.
        supervision: "mono" (neighbouring frames), "stereo" (the other camera), "mono_stereo"
            (both), or "depth" (ground truth in metres).
        base_model: where uncertainty comes from: "plain" (post hoc methods only), "log", "self" and
            "repr" (a second head), "drop" (dropout), "boot" (one of several trainings), "snap"
            (snapshots of a cyclic learning rate).
        size: (height, width) of the input, multiples of 32; pictures are resized to it.
        half_and_crop: first take the centre 224×288 of the half-size picture, as for NYU.
        num_layers, encoder_widths, decoder_widths, min_depth, max_depth: see `Monodepth2`.
        dropout_rate: of the base model "drop".
        initial_depth: depth predicted before training, in the network's units; None initialises the
            bias of the output head with zero.
        motion: source of the camera's motion between frames: "network", a jointly trained pose
            network, as in the papers; or "alignment" of the pictures, given the predicted depth
            (see `align_views`), which needs no training.
        initial_motion: initial guess of the forward motion from a frame to the next, in the depth
            network's units: the untrained pose network's output, or the start of alignment. With 0,
            a training without pretrained encoders may settle in an inside-out world, through which
            cars reverse.
        pose_layers, pose_encoder_widths, pose_width: see `PoseNetwork`.
        bfloat16: compute in bfloat16; parameters, BatchNorm and losses stay float32.
        batch_size: images of a step on all devices together.
        epochs: passes over the images.
        steps: number of steps instead of `epochs`.
        learning_rate: the peak.
        schedule: "constant"; "step": times `decay_factor` after the fraction `decay_at` of all
            steps; "cosine" to zero; "cyclic": cosine to zero `cycles` times (base model "snap").
        warmup_steps: steps of a linear warmup from zero (not with "cyclic").
        decay_at, decay_factor, cycles: see `schedule`.
        snapshots: networks kept of the last cycles.
        weight_decay: of AdamW; 0 is Adam.
        gradient_clip: largest global norm of the gradients; None for no clipping.
        average_decay: decay of the exponential moving average of the network's variables, which is
            then exported; None exports the last ones.
        statistics_batches: batches over which BatchNorm's statistics are recomputed at the end;
            0 keeps the running averages, of about the last ten batches.
        smoothness_weight, auto_mask, resolution, space: see `Objective`.
        flip: probability of a horizontal flip.
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
    base_model: BaseModelName = "plain"
    dataset: str = "kitti"
    train_split: str = "eigen_zhou/train"
    validation_split: str | None = "eigen_zhou/val"
    size: Annotated[
        tuple[int, int],
        _FROM_JSON,
        _range("multiples of 32", lambda x: all(n > 0 and n % 32 == 0 for n in x)),
    ] = (192, 640)
    half_and_crop: bool = False
    num_layers: Layers = 18
    encoder_widths: Widths = (64, 64, 128, 256, 512)
    decoder_widths: Widths = (16, 32, 64, 128, 256)
    min_depth: PositiveFloat = 0.1
    max_depth: PositiveFloat = 100.0
    dropout_rate: Annotated[float, _range("at least 0 and less than 1", lambda x: 0 <= x < 1)] = 0.2
    initial_depth: PositiveFloat | None = None
    motion: MotionSource = "network"
    initial_motion: Amount = 0.0
    pose_layers: Layers = 18
    pose_encoder_widths: Widths = (64, 64, 128, 256, 512)
    pose_width: PositiveInt = 256
    bfloat16: bool = False
    batch_size: PositiveInt = 12
    epochs: PositiveFloat = 20.0
    steps: PositiveInt | None = None
    learning_rate: PositiveFloat = 1e-4
    schedule: ScheduleName = "step"
    warmup_steps: Count = 0
    decay_at: Share = 0.75
    decay_factor: PositiveFloat = 0.1
    cycles: PositiveInt = 20
    snapshots: PositiveInt = 8
    weight_decay: Amount = 0.0
    gradient_clip: PositiveFloat | None = None
    average_decay: InnerShare | None = None
    statistics_batches: Count = 0
    smoothness_weight: Amount = 1e-3
    auto_mask: bool = True
    resolution: Resolution = "full"
    space: ErrorSpace = "depth"
    flip: Share = 0.5
    jitter: Share = 0.5
    brightness: Share = 0.2
    contrast: Share = 0.2
    saturation: Share = 0.2
    hue: Annotated[float, _range("0 to 0.5", lambda x: 0 <= x <= 0.5)] = 0.1
    zoom: Annotated[
        tuple[float, float],
        _FROM_JSON,
        _range("(least, most), at least 1", lambda x: 1 <= x[0] <= x[1] < inf),
    ] = (1.0, 1.0)
    rotation_degrees: Annotated[float, _range("0 to 180", lambda x: 0 <= x <= 180)] = 0.0
    seed: Annotated[int, _range("0 to 4294967295", lambda x: 0 <= x < 2**32)] = 0

    def __post_init__(self) -> None:
        if self.max_depth <= self.min_depth:
            raise GrumoError(
                f"max_depth is {self.max_depth}; expected more than min_depth, {self.min_depth}"
            )
        if self.half_and_crop and self.supervision != "depth":
            raise GrumoError(
                "half_and_crop is for supervision=depth; cameras do not follow the crop"
            )
        if self.rotation_degrees and self.supervision != "depth":
            raise GrumoError("rotation_degrees is for supervision=depth; views do not turn with it")
        depth = self.initial_depth if self.supervision != "depth" else None
        if depth is not None and not self.min_depth < depth < self.max_depth:
            raise GrumoError(
                f"initial_depth is {depth}; expected between min_depth, {self.min_depth}, and "
                f"max_depth, {self.max_depth}"
            )
        if self.snapshots > self.cycles:
            raise GrumoError(
                f"there are {self.cycles} cycles, too few to keep {self.snapshots} snapshots"
            )
        if (self.schedule == "cyclic") != (self.base_model == "snap"):
            raise GrumoError(
                f"the schedule {self.schedule} does not go with the base model {self.base_model}: "
                "snapshots, and nothing else, are trained with schedule=cyclic"
            )

    @property
    def predicts_uncertainty(self) -> bool:
        """Whether the network has an uncertainty head."""
        return self.base_model in ("log", "self", "repr")

    def number_of_steps(self, images: int) -> int:
        """Number of steps of a run on so many images."""
        if self.steps is not None:
            return self.steps
        return max(1, round(self.epochs * images / self.batch_size))

    def replace(self, changes: Mapping[str, Any]) -> "Settings":
        """A copy with some settings changed; text is parsed as on the command line.

        Args:
            changes: {name: value, or its text}. `epochs` replaces `steps`.

        Raises:
            GrumoError: for an unknown name or an invalid value.

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
        """All settings as JSON values: tuples become lists."""
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
    """Parse a value: JSON, numbers separated by commas, none, or else the text itself.

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


def _describe(kind: Any) -> str:
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(_describe, get_args(kind)))
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        number = "" if inner[-1] is Ellipsis else f"{len(inner)} "
        return f"{number}numbers with commas between them"
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a name"}
    return names.get(kind, "none")
