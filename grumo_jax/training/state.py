"""The state that training updates, and the networks, schedule and optimiser behind it."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from grumo_jax.networks.monodepth2 import Monodepth2
from grumo_jax.training.objectives import Objective
from grumo_jax.training.pose import POSE_SCALE, PoseNetwork
from grumo_jax.training.settings import Settings

POSE_HEAD, FORWARD = "pose", 5
"""The pose network's last layer, and the index of its output for motion along z."""

Schedule = Callable[[Any], Any]
"""Number of steps done → learning rate; traceable."""


@struct.dataclass
class TrainingState:
    """Everything a step updates; a run resumes from it alone.

    Attributes:
        step: () int32, number of steps done.
        params: {"depth", and "pose" if used: parameters}, float32.
        batch_stats: {the same: BatchNorm's running averages}, float32.
        optimiser: optax's state.
        average: {"params", "batch_stats"}: moving averages of the depth network's variables, or
            None.
        diverged: () bool, whether a step gave something that is not finite. Neither that step nor
            any later one is applied.

    Example:
        >>> import jax.numpy as jnp
        >>> none = {"depth": {}}
        >>> state = TrainingState(jnp.int32(7), none, none, (), None, jnp.array(False))
        >>> int(state.step), state.variables
        (7, {'params': {}, 'batch_stats': {}})
    """

    step: jax.Array
    params: dict[str, Any]
    batch_stats: dict[str, Any]
    optimiser: Any
    average: Any
    diverged: jax.Array

    @property
    def variables(self) -> dict[str, Any]:
        """The depth network's variables: the moving averages, if there are any."""
        if self.average is not None:
            return self.average
        return {"params": self.params["depth"], "batch_stats": self.batch_stats["depth"]}


@dataclass(frozen=True)
class Networks:
    """The networks of a run.

    Attributes:
        depth: the depth network.
        pose: predicts the camera's motion between frames; None if motion is not needed, or found by
            alignment.
    """

    depth: Monodepth2
    pose: PoseNetwork | None

    @classmethod
    def of(cls, settings: Settings) -> "Networks":
        """The networks that the settings describe.

        Example:
            >>> Networks.of(Settings("stereo", base_model="log")).depth.predict_uncertainty
            True
        """
        dtype = jnp.bfloat16 if settings.bfloat16 else None
        depth = Monodepth2(
            num_layers=settings.num_layers,
            output="depth" if settings.supervision == "depth" else "disparity",
            predict_uncertainty=settings.predicts_uncertainty,
            dropout_rate=settings.dropout_rate if settings.base_model == "drop" else 0.0,
            encoder_widths=settings.encoder_widths,
            decoder_widths=settings.decoder_widths,
            min_depth=settings.min_depth,
            max_depth=settings.max_depth,
            input_size=settings.size,
            dtype=dtype,
        )
        pose = None
        if needs_pose(settings):
            pose = PoseNetwork(
                num_layers=settings.pose_layers,
                encoder_widths=settings.pose_encoder_widths,
                width=settings.pose_width,
                dtype=dtype,
            )
        return cls(depth, pose)


def needs_pose(settings: Settings) -> bool:
    """Whether a pose network is trained, too."""
    return settings.motion == "network" and make_objective(settings).needs_motions


def make_objective(settings: Settings) -> Objective:
    """The loss that the settings describe."""
    return Objective(
        settings.supervision,
        settings.base_model if settings.base_model in ("log", "self", "repr") else "none",
        smoothness_weight=settings.smoothness_weight,
        auto_mask=settings.auto_mask,
        resolution=settings.resolution,
        space=settings.space,
    )


def make_schedule(settings: Settings, steps: int) -> Schedule:
    """The learning rate as a function of the number of steps done.

    Args:
        settings: see `Settings.schedule`.
        steps: of the whole run.

    Example:
        >>> rate = make_schedule(Settings(learning_rate=1.0), steps=20)
        >>> [round(float(rate(step)), 3) for step in (0, 14, 15, 19)]
        [1.0, 1.0, 0.1, 0.1]
    """
    peak, warmup = settings.learning_rate, min(settings.warmup_steps, steps - 1)
    if settings.schedule == "cyclic":
        return lambda step: _cosine(peak, ((step * settings.cycles) % steps) / steps)
    after = {
        "constant": lambda step: jnp.full((), peak, jnp.float32),
        "cosine": lambda step: _cosine(peak, step / (steps - warmup)),
        "step": optax.piecewise_constant_schedule(
            peak, {max(round(settings.decay_at * steps) - warmup, 0): settings.decay_factor}
        ),
    }[settings.schedule]
    if not warmup:
        return after
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), after], [warmup])


def _cosine(peak: float, share: Any) -> jax.Array:
    return peak * 0.5 * (1 + jnp.cos(jnp.pi * share))


def snapshot_steps(settings: Settings, steps: int) -> dict[int, int]:
    """{step after which a snapshot is kept: index of its cycle}.

    Example:
        >>> settings = Settings(base_model="snap", schedule="cyclic", cycles=4, snapshots=2)
        >>> snapshot_steps(settings, 10)
        {8: 2, 10: 3}
    """
    if settings.base_model != "snap":
        return {}
    kept = range(settings.cycles - settings.snapshots, settings.cycles)
    return {-(-(cycle + 1) * steps // settings.cycles): cycle for cycle in kept}


def make_optimiser(settings: Settings, schedule: Schedule) -> optax.GradientTransformation:
    """Adam (AdamW with weight decay), with gradient clipping if set."""
    adam = (
        optax.adamw(schedule, weight_decay=settings.weight_decay)
        if settings.weight_decay
        else optax.adam(schedule)
    )
    if settings.gradient_clip is None:
        return adam
    return optax.chain(optax.clip_by_global_norm(settings.gradient_clip), adam)


def initial_variables(settings: Settings) -> dict[str, Any]:
    """Random variables of all networks: {"depth", "pose": {"params", "batch_stats"}}.

    Kernels are normal with variance 1 / fan_in, as in Flax; biases are 0. Drawn with NumPy:
    compiling Flax's initialisers takes longer than many a small training.
    """
    networks, variables = Networks.of(settings), {}
    images = jax.ShapeDtypeStruct((1, *settings.size, 3), jnp.float32)
    key = jax.random.key(0)  # for shapes only
    rng = np.random.Generator(np.random.Philox(settings.seed))
    shapes = jax.eval_shape(networks.depth.clone(dtype=None).init, key, images)
    variables["depth"] = _draw(dict(shapes), rng, settings)
    if networks.pose is not None:
        shapes = jax.eval_shape(networks.pose.clone(dtype=None).init, key, images, images)
        variables["pose"] = _draw(dict(shapes), rng, settings)
    return variables


def _draw(shapes: Any, rng: np.random.Generator, settings: Settings) -> Any:
    def draw(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        *_, layer, name = (entry.key for entry in path)
        if name == "kernel":
            scale = math.prod(leaf.shape[:-1]) ** -0.5
            return np.float32(scale) * rng.standard_normal(leaf.shape, np.float32)
        drawn = np.full(leaf.shape, name in ("scale", "var"), leaf.dtype)
        if name == "bias" and layer.startswith("head_") and settings.initial_depth is not None:
            drawn[:] = _head_bias(settings)
        if name == "bias" and layer == POSE_HEAD:
            # Ahead means that points come closer.
            drawn[FORWARD] = -settings.initial_motion / POSE_SCALE
        return drawn

    return jax.tree.map_with_path(draw, shapes)


def _head_bias(settings: Settings) -> float:
    """Initial bias of the output head, so that `initial_depth` is predicted."""
    assert settings.initial_depth is not None
    if settings.supervision == "depth":
        return settings.initial_depth
    low, high = 1 / settings.max_depth, 1 / settings.min_depth
    disparity = (1 / settings.initial_depth - low) / (high - low)
    disparity = min(max(disparity, 1e-6), 1 - 1e-6)
    return math.log(disparity / (1 - disparity))


def initial_state(
    variables: dict[str, Any], optimiser: optax.GradientTransformation, *, average: bool = False
) -> TrainingState:
    """The state before the first step.

    Args:
        variables: of all networks, as from `initial_variables`.
        optimiser: from `make_optimiser`.
        average: keep moving averages.
    """
    params = {name: tree["params"] for name, tree in variables.items()}
    # A copy: a donated buffer must not occur twice.
    averaged = jax.tree.map(jnp.array, variables["depth"]) if average else None
    return TrainingState(
        step=jnp.int32(0),
        params=params,
        batch_stats={name: tree["batch_stats"] for name, tree in variables.items()},
        optimiser=optimiser.init(params),
        average=averaged,
        diverged=jnp.bool_(False),
    )
