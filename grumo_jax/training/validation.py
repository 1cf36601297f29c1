"""Measure a network on held-out images during training."""

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from grumo_jax._internal.hosts import exchange, interleave
from grumo_jax.data import Loaded, Problem, Source, at_most, load
from grumo_jax.errors import DataError
from grumo_jax.metrics import depth_errors
from grumo_jax.metrics.masked import clip, is_depth, median_ratio
from grumo_jax.metrics.sparsification import METRICS
from grumo_jax.networks.monodepth2 import STEREO_SCALE, Monodepth2
from grumo_jax.training.batch import Arrays
from grumo_jax.training.feeding import Fit, stack
from grumo_jax.training.geometry import frame_pairs
from grumo_jax.training.log import draw_rows
from grumo_jax.training.settings import Settings
from grumo_jax.training.state import Networks, TrainingState, make_objective
from grumo_jax.training.step import find_motions, predict_labels, to_batch, without_seed

SHOWN = 4
"""Number of images that are drawn."""
NEAREST = 1e-3
FARTHEST = {"nyu": 10.0}
"""{data set: metres up to which ground truth counts}; 80 for others."""


@dataclass(frozen=True)
class Validation:
    """Measures a network on images of one source, at its training size.

    With ground truth: depth metrics, with predictions scaled by the medians (mono) or by 5.4
    (stereo). Without: the training loss, without augmentation. These numbers are for watching a
    training; `grumo evaluate` gives those to report. Several processes share the images.

    Attributes:
        settings: of the run.
        source: held-out images.
        teacher: of the base model "self".
        number: number of images to use, spread evenly over the source.
        workers: threads that read ahead.
    """

    settings: Settings
    source: Source
    teacher: Monodepth2 | None = None
    number: int = 128
    workers: int = 2

    def check(self, state: TrainingState, labels: Any = None) -> None:
        """Check before the first step that the network can be measured.

        Args:
            state, labels: see `measure`.

        Raises:
            DataError: if there are no usable images.
            GrumoError: if the images lack something.
        """
        arrays, _ = self._batches[0]
        jax.eval_shape(partial(self._measure_batch, state, labels), arrays)

    def measure(self, state: TrainingState, labels: Any = None) -> dict[str, float]:
        """Means of all measures over the images.

        Args:
            state: of the training.
            labels: the teacher's variables.
        """
        rows = []
        for arrays, real in self._batches:
            measured = jax.device_get(self._measure_batch(state, labels, arrays))
            if self.source.has_depth:
                rows += [{k: float(v[i]) for k, v in measured.items()} for i in real]
            else:
                rows.append({k: float(v) for k, v in measured.items()})
        rows = interleave(exchange(rows))
        names = METRICS if self.source.has_depth else sorted(rows[0], key=lambda n: n != "loss")
        return {name: float(np.mean([row[name] for row in rows])) for name in names}

    def _measure_batch(
        self, state: TrainingState, labels: Any, arrays: Arrays
    ) -> dict[str, jax.Array]:
        if self.source.has_depth:
            return _scores(state.variables, arrays, self._program)
        return _loss(_all_variables(state), labels, arrays, self._program, self.teacher)

    def draw(self, state: TrainingState) -> np.ndarray:
        """Draw image, disparity (or depth) and uncertainty of a few images: uint8 (H, W, 3)."""
        images = np.concatenate([arrays["image"] for arrays, _ in self._batches])[:SHOWN]
        depths, log_sigmas = jax.device_get(_predict(state.variables, images, self._program))
        disparity = self.settings.supervision != "depth"
        return draw_rows(images, depths, log_sigmas, disparity=disparity)

    @property
    def _program(self) -> Settings:
        return without_seed(self.settings)

    @cached_property
    def _batches(self) -> list[tuple[Arrays, range]]:
        """The images in batches of one size, the last one padded, and the range that counts."""
        training = Fit.of(self.settings)
        fit = Fit(training.size, half_and_crop=training.half_and_crop, depth=True)
        items, reason = list[Loaded[Arrays]](), "no image has valid depth"
        fit = fit if self.source.has_depth else training
        place = jax.process_index(), jax.process_count()
        for item in load(at_most(self.source, self.number), fit, workers=self.workers, shard=place):
            if isinstance(item, Problem):
                reason = item.sentence
            elif "depth" not in item.value or _counts(item.value["depth"], self.settings).any():
                items.append(item)
        if not items:
            raise DataError(f"{self.source.name}: nothing to validate on; {reason}")
        size, batches = min(self.settings.batch_size, len(items)), []
        for start in range(0, len(items), size):
            part = items[start : start + size]
            filled = part + items[: size - len(part)]
            batches.append((stack(filled), range(len(part))))
        return batches


def _counts(depth: Any, settings: Settings) -> Any:
    """Mask of the ground truth's pixels that count."""
    return (depth > NEAREST) & (depth < _farthest(settings))


def _farthest(settings: Settings) -> float:
    return FARTHEST.get(settings.dataset, 80.0)


@partial(jax.jit, static_argnames="settings")
def _scores(variables: Any, arrays: Arrays, settings: Settings) -> dict[str, jax.Array]:
    """Depth metrics of each image."""
    batch = to_batch(arrays)
    assert batch.depth is not None
    output: Any = Networks.of(settings).depth.apply(variables, batch.image)
    known = _counts(batch.depth, settings)
    depth = jnp.where(is_depth(output.depth), output.depth, jnp.nan)
    if settings.supervision == "mono":
        depth = depth * median_ratio(batch.depth, depth, known)[:, None, None]
    elif settings.supervision != "depth":
        depth = depth * STEREO_SCALE
    errors = depth_errors(batch.depth, clip(depth, NEAREST, _farthest(settings)), known)
    return {name: getattr(errors, name) for name in METRICS}


@partial(jax.jit, static_argnames=("settings", "teacher"))
def _loss(
    variables: Any, labels: Any, arrays: Arrays, settings: Settings, teacher: Monodepth2 | None
) -> dict[str, jax.Array]:
    """The loss and its terms for a batch, without augmentation."""
    networks, batch, poses = Networks.of(settings), to_batch(arrays), None
    output: Any = networks.depth.apply(variables["depth"], batch.image)
    if networks.pose is not None:
        poses = networks.pose.apply(variables["pose"], *frame_pairs(batch.pictures))
    total, terms = make_objective(settings)(
        output,
        batch,
        motions=find_motions(settings, output, batch, poses),
        teacher=predict_labels(teacher, labels, batch.image),
        key=jax.random.key(0),
    )
    return {"loss": total, **terms}


@partial(jax.jit, static_argnames="settings")
def _predict(
    variables: Any, images: jax.Array, settings: Settings
) -> tuple[jax.Array, jax.Array | None]:
    output: Any = Networks.of(settings).depth.apply(variables, images.astype(jnp.float32) / 255)
    return output.depth, output.log_sigma


def _all_variables(state: TrainingState) -> dict[str, Any]:
    """The variables of all networks, the depth network's averaged if there are averages."""
    variables = {"depth": state.variables}
    if "pose" in state.params:
        pose = {"params": state.params["pose"], "batch_stats": state.batch_stats["pose"]}
        variables["pose"] = pose
    return variables
