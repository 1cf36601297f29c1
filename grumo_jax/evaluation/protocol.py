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

    The prediction is resized bilinearly to the ground truth's size, as disparity if that is what
    the network predicts, multiplied by `scale`, and clipped to [`min_depth`, `max_depth`]; the
    uncertainty is resized bilinearly. Depth that is not positive and finite is not clipped: it
    counts as wrong (`depth_errors`).

    Attributes:
        name: shown in tables.
        scale: "median", for each image median(ground truth) / median(resized depth); or a factor.
        median_of: the pixels of these medians: "evaluated", or "known": all with ground truth,
            before crop and limits, as in the papers' programs.
        min_depth, max_depth: metres.
        limit_truth: whether ground truth outside of that range is masked; None does as KITTI's
            programs: with the crop, but not with the improved ground truth, which has none.
        crop: "eigen" for Eigen et al.'s crop; "source" for that of the source's split; None.
        half_and_crop: take the centre 224×288 of the half-size picture, as for NYU Depth V2.
        through_png16: round disparity and uncertainty as the official programs do, which write
            them as 16-bit files before scoring. For comparison with published numbers.
        size: (height, width) of the input, for networks without an `input_size`.
        bands: edges of the bands of depth, metres.

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
        """A copy with all that depends on the source resolved."""
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
        """Everything the numbers depend on, for the results file."""
        values = dataclasses.asdict(self)
        del values["size"]  # the results file records the size that was used
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
"""{name: protocol}. The last two are for your own data: relative depth, and depth in metres."""


def named_protocol(name: str) -> Protocol:
    """Look up a protocol.

    Raises:
        GrumoError: if no protocol has that name.

    Example:
        >>> named_protocol("nyu").max_depth
        10.0
    """
    if name not in PROTOCOLS:
        raise GrumoError(f"there is no protocol {name!r}; choose one of {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]
