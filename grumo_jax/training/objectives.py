"""The losses of all base models, term by term.

Self-supervised: Godard et al., ICCV 2019. Uncertainty ("log", "self", "repr"): Poggi et al., "On
the uncertainty of self-supervised monocular depth estimation", CVPR 2020.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp

from grumo_jax._internal.checks import check_choice
from grumo_jax.errors import GrumoError
from grumo_jax.networks.monodepth2 import DepthOutput
from grumo_jax.scores import bilinear
from grumo_jax.training.batch import TrainingBatch, check_batch, check_within
from grumo_jax.training.geometry import shrink_intrinsics, stereo_motion, warp
from grumo_jax.training.photometric import (
    absolute,
    edge_aware_smoothness,
    laplace_likelihood,
    photometric_error,
    shrink,
)

Supervision = Literal["mono", "stereo", "mono_stereo", "depth"]
Uncertainty = Literal["none", "log", "self", "repr"]
ErrorSpace = Literal["depth", "log_depth", "relative"]
Resolution = Literal["full", "pyramid"]
Terms = dict[str, jax.Array]

VIEWS_OF: dict[str, tuple[str, ...]] = {
    "mono": ("previous", "following"),
    "stereo": ("stereo",),
    "mono_stereo": ("previous", "following", "stereo"),
    "depth": (),
}
SMALLEST_DEPTH = 1e-3
"""Depths are clipped from below at this before the logarithm."""

TIE_BREAK = 1e-5
"""Standard deviation of the noise on identity errors."""


@dataclass(frozen=True)
class Objective:
    """The loss of a base model: a function of the network's output and the batch.

    Every term is a mean over pixels, images and the scales that the network predicts; maps of
    coarser scales are resized bilinearly to the image's size (depth as 1 / depth in self-supervised
    training). The loss is the sum of the terms:

    - "mono", "stereo", "mono_stereo": "photometric", e, and "smoothness". With "log" the first is
      "likelihood", e·exp(−s) + s, instead; with "repr" there is also "regression", |s − e| with e
      constant; with "self" there is only "likelihood", |disp − disp_T|·exp(−s) + s.
    - "depth": "depth", |d − d*|, counted as `space` says. With "log" it is "likelihood",
      |d − d*|·exp(−s) + s, instead; with "repr" there is also "regression", |s − |d − d*|| with the
      error constant; with "self" there is only "likelihood", |d − d_T|·exp(−s) + s.

    e is the smallest photometric error among the warped views, s = log σ the output of the
    uncertainty head, T a teacher trained before (disp is the sigmoid disparity), d* the true depth
    where known.

    Auto-masking: where the error of some view *without* warping (plus noise of 1e-5, to break ties)
    is smaller than e, it replaces e in "photometric", so that depth learns nothing from static
    pixels. The papers do not say how this combines with a likelihood. Here "likelihood" and
    "regression" keep e, since σ must be learnt for those pixels as well, but as a constant, so that
    depth learns nothing from them either. That "repr" regresses e by the absolute difference is our
    reading, too.

    Attributes:
        supervision: "mono" (frames before and after), "stereo", "mono_stereo" or "depth".
        uncertainty: "none", "log", "self" or "repr"; other than "none" they need a network with an
            uncertainty head.
        smoothness_weight: of the smoothness of disparity, halved at each coarser scale.
        ssim_weight: part of SSIM in the photometric error.
        auto_mask: whether to mask static pixels.
        resolution: the size at which views are compared: "full", the picture's, to which coarser
            scales of depth are upsampled (Godard et al., 2019); or "pyramid": each scale of depth
            is compared at its own and all smaller sizes, which finds large motions sooner, but
            blurs edges. Supervision by depth is always "full".
        space: how errors of depth are measured: "depth", in metres, as in the papers; "log_depth",
            between logarithms; or "relative", divided by the true depth.

    Raises:
        GrumoError: if an option does not exist or is out of range.

    Example:
        >>> import jax.numpy as jnp
        >>> objective = Objective("depth", "log")
        >>> depth = jnp.full((1, 4, 4), 3.0)
        >>> output = DepthOutput((depth,), None, (jnp.zeros((1, 4, 4)),))
        >>> batch = TrainingBatch(jnp.zeros((1, 4, 4, 3)), depth=depth.at[0, 0, 0].set(0) - 1)
        >>> loss, terms = objective(output, batch)
        >>> terms
        {'likelihood': Array(1., dtype=float32)}
    """

    supervision: Supervision
    uncertainty: Uncertainty = "none"
    smoothness_weight: float = 1e-3
    ssim_weight: float = 0.85
    auto_mask: bool = True
    resolution: Resolution = "full"
    space: ErrorSpace = "depth"

    def __post_init__(self) -> None:
        check_choice("supervision", self.supervision, get_args(Supervision))
        check_choice("uncertainty", self.uncertainty, get_args(Uncertainty))
        check_choice("resolution", self.resolution, get_args(Resolution))
        check_choice("space", self.space, get_args(ErrorSpace))
        check_within("smoothness_weight", self.smoothness_weight, 0, 1e6)
        check_within("ssim_weight", self.ssim_weight, 0, 1)

    @property
    def views(self) -> tuple[str, ...]:
        """The subset of ("previous", "following", "stereo") that the loss warps."""
        return () if self.uncertainty == "self" else VIEWS_OF[self.supervision]

    @property
    def needs_motions(self) -> bool:
        """Whether the loss needs the motions of frames before and after."""
        return "previous" in self.views

    @property
    def needs_teacher(self) -> bool:
        """Whether the loss needs a teacher's output."""
        return self.uncertainty == "self"

    @property
    def needs_key(self) -> bool:
        """Whether the loss draws random numbers."""
        return bool(self.views) and self.auto_mask

    def __call__(
        self,
        output: DepthOutput,
        batch: TrainingBatch,
        *,
        motions: Mapping[str, jax.Array] | None = None,
        teacher: DepthOutput | None = None,
        key: jax.Array | None = None,
    ) -> tuple[jax.Array, Terms]:
        """Compute the loss of a batch.

        Args:
            output: the network's prediction for `batch.image` (with changed colours).
            batch: the pictures to compare, colours unchanged, and what else the loss needs.
            motions: {"previous", "following": (B, 4, 4) float32}, from the target's camera to the
                view's, as `predict_motions` returns them; if `needs_motions`.
            teacher: the teacher's prediction for the same images, if `needs_teacher`. No gradient
                flows into it.
            key: typed PRNG key for auto-masking's noise, if `needs_key`.

        Returns:
            The loss () float32 and its terms {name: () float32}. All are finite for finite input.

        Raises:
            GrumoError: if a view, intrinsics, depth, motions, teacher, key or head is missing, or
                shapes do not fit together.
        """
        self._check(output, batch, motions or {}, teacher, key)
        if teacher is not None and self.needs_teacher:
            label = jax.lax.stop_gradient(self._labelled(teacher)[0])
            terms = self._fit(output, label, jnp.mean)
        elif batch.depth is not None and self.supervision == "depth":
            known = batch.depth > 0
            label = jnp.where(known, batch.depth, 1)
            terms = self._fit(output, label, partial(_mean_where, known))
        else:
            terms = self._reproject(output, batch, motions or {}, key)
        return sum(terms.values(), start=jnp.zeros(())), terms

    def _reproject(
        self,
        output: DepthOutput,
        batch: TrainingBatch,
        motions: Mapping[str, jax.Array],
        key: jax.Array | None,
    ) -> Terms:
        if batch.stereo_offset is not None:
            motions = {**motions, "stereo": stereo_motion(batch.stereo_offset)}
        disparities = self._labelled(output)
        batches = self._compared_at([d.shape[1:3] for d in disparities], batch)
        key = key if self.auto_mask else None
        still = [None if key is None else self._identity_error(b, key) for b in batches]
        targets = list(zip(batches, still, strict=True))
        terms = []
        for scale, disparity in enumerate(disparities):
            weight = self.smoothness_weight * disparity.shape[1] / batch.image.shape[1]
            smoothness = weight * edge_aware_smoothness(disparity, batch.image)
            compared = []
            for seen, unmoved in targets[scale:] if self.resolution == "pyramid" else targets:
                _, *size, _ = seen.image.shape
                depth = 1 / _resize(1 / output.depths[scale], size)
                error = self._warped_error(seen, depth, motions)
                log_sigma = _log_sigma(output, scale, size)
                compared.append(self._compare("photometric", error, log_sigma, unmoved))
            terms.append({**_mean_terms(compared), "smoothness": smoothness})
        return _mean_terms(terms)

    def _compared_at(
        self, sizes: Sequence[Sequence[int]], batch: TrainingBatch
    ) -> list[TrainingBatch]:
        """The batch at each size at which views are compared."""
        if self.resolution == "full":
            return [batch]
        return [shrink_batch(batch, size) for size in sizes]

    def _warped_error(
        self, batch: TrainingBatch, depth: jax.Array, motions: Mapping[str, jax.Array]
    ) -> jax.Array:
        """Smallest photometric error (B, H, W) of the views, warped by depth (B, H, W)."""
        intrinsics: Any = batch.intrinsics
        warped = (warp(batch.pictures[v], depth, intrinsics, motions[v]) for v in self.views)
        return reduce(jnp.minimum, (self._error(picture, batch.image) for picture in warped))

    def _identity_error(self, batch: TrainingBatch, key: jax.Array) -> jax.Array:
        """Smallest photometric error (B, H, W) of the unwarped views, with noise."""
        errors = jnp.stack([self._error(batch.pictures[v], batch.image) for v in self.views])
        return jnp.min(errors + TIE_BREAK * jax.random.normal(key, errors.shape), axis=0)

    def _error(self, picture: jax.Array, target: jax.Array) -> jax.Array:
        return photometric_error(picture, target, ssim_weight=self.ssim_weight)

    def _fit(
        self, output: DepthOutput, label: jax.Array, mean: Callable[[jax.Array], jax.Array]
    ) -> Terms:
        """The terms of a label (B, H, W) for the network's output."""
        _, *full = label.shape
        terms = []
        for scale, prediction in enumerate(self._labelled(output)):
            error = self._difference(_resize(prediction, full), label)
            log_sigma = _log_sigma(output, scale, full)
            terms.append(self._compare("depth", error, log_sigma, mean=mean))
        return _mean_terms(terms)

    def _difference(self, prediction: jax.Array, label: jax.Array) -> jax.Array:
        if self.supervision != "depth" or self.space == "depth":
            return absolute(prediction - label)
        if self.space == "relative":
            return absolute(prediction - label) / label
        return absolute(_log(prediction) - _log(label))

    def _compare(
        self,
        name: str,
        error: jax.Array,
        log_sigma: Any,
        still: jax.Array | None = None,
        *,
        mean: Callable[[jax.Array], jax.Array] = jnp.mean,
    ) -> Terms:
        """The terms of one scale's error (B, H, W), given the error without warping."""
        constant = jax.lax.stop_gradient(error)
        if self.uncertainty in ("log", "self"):
            if still is not None:
                error = jnp.where(still < error, constant, error)
            return {"likelihood": mean(laplace_likelihood(error, log_sigma))}
        terms = {name: mean(error if still is None else jnp.minimum(error, still))}
        if self.uncertainty == "repr":
            terms["regression"] = mean(absolute(log_sigma - constant))
        return terms

    def _labelled(self, output: DepthOutput) -> tuple[jax.Array, ...]:
        """The outputs that have labels: depth, or disparity in self-supervised training."""
        return output.depths if self.supervision == "depth" else output.disparities or ()

    def _check(
        self,
        output: DepthOutput,
        batch: TrainingBatch,
        motions: Mapping[str, jax.Array],
        teacher: DepthOutput | None,
        key: jax.Array | None,
    ) -> None:
        check_batch(batch)
        if self.uncertainty != "none" and output.log_sigmas is None:
            raise GrumoError(
                f"uncertainty is {self.uncertainty!r}, but the network has no uncertainty head; "
                "build it with predict_uncertainty=True"
            )
        there = {
            **{view: view in batch.pictures for view in self.views},
            "intrinsics": batch.intrinsics is not None or not self.views,
            "stereo_offset": batch.stereo_offset is not None or "stereo" not in self.views,
            "depth": batch.depth is not None or self.supervision != "depth" or self.needs_teacher,
            "motions=": not self.needs_motions or {"previous", "following"} <= set(motions),
            "teacher=": teacher is not None or not self.needs_teacher,
            "key=": key is not None or not self.needs_key,
        }
        if missing := [name for name, is_there in there.items() if not is_there]:
            raise GrumoError(
                f"supervision {self.supervision!r} with uncertainty {self.uncertainty!r} needs "
                f"{', '.join(missing)}: give the batch (or, for names that end in =, the call) "
                "what is missing, or choose another objective"
            )
        self._check_output(output, "network", batch)
        if teacher is not None and self.needs_teacher:
            self._check_output(teacher, "teacher", batch)

    def _check_output(self, output: DepthOutput, name: str, batch: TrainingBatch) -> None:
        if self.supervision != "depth" and output.disparities is None:
            raise GrumoError(
                f"supervision is {self.supervision!r}, but the {name} predicts no disparity; build "
                'it with output="disparity"'
            )
        size, height, width, _ = batch.image.shape
        sizes = [depth.shape for depth in output.depths]
        fits = all(b == size and height % h == 0 and width % w == 0 for b, h, w in sizes)
        if sizes[0] != (size, height, width) or not fits:
            raise GrumoError(
                f"the {name} predicts maps of shapes {', '.join(map(str, sizes))}; expected "
                f"{(size, height, width)} first, as the image has it, then whole fractions of it"
            )


def shrink_batch(batch: TrainingBatch, size: Sequence[int]) -> TrainingBatch:
    """A batch's pictures, with their cameras, at a size that divides theirs."""
    height, width = size
    factor = batch.image.shape[1] // height
    if factor == 1:
        return batch
    pictures = {name: shrink(p, (height, width)) for name, p in batch.pictures.items()}
    intrinsics = None if batch.intrinsics is None else shrink_intrinsics(batch.intrinsics, factor)
    return dataclasses.replace(batch, **pictures, intrinsics=intrinsics)


def _resize(maps: jax.Array, size: Sequence[int]) -> jax.Array:
    """Resize maps (B, h, w): bilinear upsampling, or averages over blocks."""
    height, width = size
    if height < maps.shape[1]:
        return shrink(maps, (height, width))
    return bilinear(maps, (height, width))


def _log(depth: jax.Array) -> jax.Array:
    return jnp.log(jnp.maximum(depth, SMALLEST_DEPTH))


def _log_sigma(output: DepthOutput, scale: int, size: Sequence[int]) -> Any:
    return None if output.log_sigmas is None else _resize(output.log_sigmas[scale], size)


def _mean_where(chosen: jax.Array, values: jax.Array) -> jax.Array:
    """Masked mean over the whole batch; 0 if the mask is all False."""
    count = jnp.maximum(jnp.sum(chosen), 1).astype(values.dtype)
    return jnp.sum(jnp.where(chosen, values, 0)) / count


def _mean_terms(scales: list[Terms]) -> Terms:
    return jax.tree.map(lambda *values: sum(values) / len(values), *scales)
