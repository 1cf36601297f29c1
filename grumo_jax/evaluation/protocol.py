"""Evaluation protocols: which pixels count, and how a prediction becomes metres."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from grumo_jax._internal.checks import check_choice
from grumo_jax.data import Sample, center_crop, half_size
from grumo_jax.errors import GrumoError
from grumo_jax.networks.monodepth2 import STEREO_SCALE


@dataclass(frozen=True)
class Protocol:
    """How depth and uncertainty are compared with ground truth.

    The prediction is resized bilinearly to the ground truth's size as what the network predicts
    (disparity or depth), multiplied by `scale`, and clipped to [`min_depth`, `max_depth`]; the
    uncertainty is resized bilinearly. What is no positive finite depth is not clipped: it is
    wrong, and counted (`depth_errors`).

    Attributes:
        name: as tables call it.
        scale: "median", each image's ratio of the medians of ground truth and resized depth; or a
            factor.
        median_of: the pixels whose medians these are: those that are "evaluated", or all that are
            "known", which is the rule of the papers' programs: before any crop or limit.
        min_depth, max_depth: metres.
        limit_truth: whether ground truth out of that range is left out; None for what KITTI's
            programs do: with the crop, and not with the improved ground truth, which has none.
        crop: "eigen" for Eigen et al.'s crop; "source" for whatever the data's split says; None.
        half_and_crop: take the centre 224×288 of the half-size picture, as for NYU Depth V2.
        through_png16: round disparity and uncertainty as the official programs do, which write
            them as 16-bit files before scoring. For comparison with published numbers.
        size: (height, width) for networks that name no input size of their own.
        bands: depths in metres that bound the bands of error versus depth.

    Example:
        >>> PROTOCOLS["kitti-stereo"].scale
        5.4
    """

    name: str
    scale: Literal["median"] | float = "median"
    median_of: Literal["evaluated", "known"] = "evaluated"
    min_depth: float = 1e-3
    max_depth: float = 80.0
    limit_truth: bool | None = None
    crop: Literal["eigen", "source"] | None = "source"
    half_and_crop: bool = False
    through_png16: bool = False
    size: tuple[int, int] = (192, 640)
    bands: tuple[float, ...] = (0.0, 10.0, 20.0, 40.0, 80.0)

    def __post_init__(self) -> None:
        check_choice("median_of", self.median_of, ("evaluated", "known"))
        if self.through_png16 and not self.name.startswith("kitti"):
            raise GrumoError(
                f"the protocol {self.name} has no 16-bit files; only KITTI's programs write them"
            )

    def for_source(self, crop: Literal["eigen"] | None) -> "Protocol":
        """The same with everything decided that depends on the source."""
        crop = crop if self.crop == "source" else self.crop
        limit_truth = crop is not None if self.limit_truth is None else self.limit_truth
        return dataclasses.replace(self, crop=crop, limit_truth=limit_truth)

    def trim(self, sample: Sample) -> Sample:
        """Reduce image and depth to what is evaluated."""
        if not self.half_and_crop:
            return sample
        depth = sample.depth

        def reduce(array: Any) -> Any:
            return center_crop(half_size(array))

        return dataclasses.replace(
            sample, image=reduce(sample.image), depth=None if depth is None else reduce(depth)
        )

    def describe(self) -> dict[str, Any]:
        """All that decides numbers, for the results file."""
        values = dataclasses.asdict(self)
        del values["size"]  # of the input there really was, the file has a line of its own
        return values


PROTOCOLS = {
    "kitti-mono": Protocol("kitti-mono", median_of="known"),
    "kitti-stereo": Protocol("kitti-stereo", scale=STEREO_SCALE),
    "nyu": Protocol(
        "nyu",
        scale=1.0,
        max_depth=10.0,
        limit_truth=True,
        crop=None,
        half_and_crop=True,
        size=(224, 288),
        bands=(0.0, 2.0, 3.0, 5.0, 10.0),
    ),
    "median": Protocol("median", limit_truth=True, crop=None),
    "metric": Protocol("metric", scale=1.0, limit_truth=True, crop=None),
}
"""By name. The last two are for data of one's own: relative depth, and depth in metres."""


def named_protocol(name: str) -> Protocol:
    """Look up a protocol.

    Raises:
        GrumoError: if there is none of that name.

    Example:
        >>> named_protocol("nyu").max_depth
        10.0
    """
    if name not in PROTOCOLS:
        raise GrumoError(f"there is no protocol {name!r}; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
