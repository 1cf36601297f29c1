"""One training step: jitted, on all devices, guarded against non-finite values."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from grumo_jax._internal.meshes import replicated
from grumo_jax.networks.monodepth2 import DepthOutput, Monodepth2
from grumo_jax.networks.resnet import MOMENTUM
from grumo_jax.training.alignment import align_views
from grumo_jax.training.augment import Augmented, Jitter, augment
from grumo_jax.training.batch import VIEWS, Arrays, TrainingBatch
from grumo_jax.training.geometry import frame_pairs, motions_from_poses
from grumo_jax.training.settings import Settings
from grumo_jax.training.state import (
    Networks,
    TrainingState,
    make_objective,
    make_optimiser,
    make_schedule,
)

Metrics = dict[str, jax.Array]
Step = Callable[[TrainingState, Arrays, Any], tuple[TrainingState, Metrics]]


def make_step(
    settings: Settings,
    steps: int,
    *,
    teacher: Monodepth2 | None = None,
    mesh: Mesh | None = None,
) -> Step:
    """The jitted training step.

    It is a function of settings, state and batch; its random draws depend on the settings' seed and
    the step's number.

    Args:
        settings: of the run.
        steps: of the whole run, for the schedule.
        teacher: the network that predicts the labels of the base model "self".
        mesh: from `make_mesh`; by default the first device alone.

    Returns:
        (state, arrays, teacher's variables or None) → (state, metrics). The given state is donated.
        Metrics are () float32: "loss", its terms, "learning_rate" (the one used), "gradient_norm"
        (before clipping) and "update_norm". If one is not finite, this and all later steps return
        the state unchanged, except `TrainingState.diverged`.

    Example:
        >>> step = make_step(Settings("stereo"), steps=100)
    """
    setup, key = _Setup(without_seed(settings), steps, teacher, mesh), jax.random.key(settings.seed)

    def step(state: TrainingState, arrays: Arrays, labels: Any) -> tuple[TrainingState, Metrics]:
        return _step(state, arrays, labels, key, setup)

    return step


def without_seed(settings: Settings) -> Settings:
    """The settings that programs are compiled for: the same for all seeds."""
    return dataclasses.replace(settings, seed=0)


@dataclass(frozen=True)
class _Setup:
    """Static argument of a step; equal ones share the compiled program."""

    settings: Settings
    steps: int = 0
    teacher: Monodepth2 | None = None
    mesh: Mesh | None = None

    def place(self, tree: Any) -> Any:
        """Replicate on every device."""
        if self.mesh is None:
            return tree
        return jax.lax.with_sharding_constraint(tree, replicated(self.mesh))


@partial(jax.jit, static_argnames="setup", donate_argnames="state")
def _step(
    state: TrainingState, arrays: Arrays, labels: Any, key: jax.Array, setup: _Setup
) -> tuple[TrainingState, Metrics]:
    settings = setup.settings
    schedule = make_schedule(settings, setup.steps)
    loss = _make_loss(settings, Networks.of(settings), setup.teacher)
    key = jax.random.fold_in(key, state.step)
    (total, (terms, batch_stats)), gradients = jax.value_and_grad(loss, has_aux=True)(
        state.params, state.batch_stats, arrays, labels, key
    )
    # Optax needs implicit dtype promotion, which users may have disabled.
    with jax.numpy_dtype_promotion("standard"):
        optimiser = make_optimiser(settings, schedule)
        updates, moments = optimiser.update(gradients, state.optimiser, state.params)
        rate = jnp.asarray(schedule(state.step), jnp.float32)
    metrics = {
        "loss": total,
        **terms,
        "learning_rate": rate,
        "gradient_norm": _norm(gradients),
        # Finite gradients may give an infinite update.
        "update_norm": _norm(updates),
    }
    new = dataclasses.replace(
        state,
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        optimiser=moments,
    )
    finite = jnp.all(jnp.isfinite(jnp.stack(list(metrics.values()))))
    guarded = _guard(state, _averaged(new, state, settings.average_decay), finite)
    return setup.place((guarded, metrics))


def make_statistics(settings: Settings, *, mesh: Mesh | None = None) -> Callable[..., Any]:
    """A jitted function that computes the BatchNorm statistics of one batch alone:

    (the depth network's variables, arrays, key) → batch_stats.
    """
    return partial(_statistics, setup=_Setup(without_seed(settings), mesh=mesh))


@partial(jax.jit, static_argnames="setup")
def _statistics(variables: Any, arrays: Arrays, key: jax.Array, setup: _Setup) -> Any:
    augment_key, _, dropout_key = jax.random.split(key, 3)
    images = _augment(setup.settings, arrays, augment_key).inputs["image"]
    nothing = jax.tree.map(jnp.zeros_like, variables["batch_stats"])
    _, updated = Networks.of(setup.settings).depth.apply(
        {"params": variables["params"], "batch_stats": nothing},
        images,
        train=True,
        mutable=["batch_stats"],
        rngs={"dropout": dropout_key},
    )
    # The running averages started at 0: undo the momentum.
    return setup.place(jax.tree.map(lambda x: x / (1 - MOMENTUM), updated["batch_stats"]))


def to_batch(arrays: Arrays) -> TrainingBatch:
    """Convert pictures of a batch from uint8 to float32 in [0, 1]."""
    pictures = ("image", *VIEWS)
    return TrainingBatch(
        **{
            name: value.astype(jnp.float32) / 255 if name in pictures else value
            for name, value in arrays.items()
        }
    )


def _augment(settings: Settings, arrays: Arrays, key: jax.Array) -> Augmented:
    jitter = None
    if settings.jitter:
        jitter = Jitter(
            settings.jitter,
            settings.brightness,
            settings.contrast,
            settings.saturation,
            settings.hue,
        )
    return augment(
        to_batch(arrays),
        key,
        flip=settings.flip,
        jitter=jitter,
        zoom=settings.zoom,
        rotation_degrees=settings.rotation_degrees,
    )


def _make_loss(
    settings: Settings, networks: Networks, teacher: Monodepth2 | None
) -> Callable[..., tuple[jax.Array, tuple[dict[str, jax.Array], Any]]]:
    objective = make_objective(settings)

    def loss(params: Any, batch_stats: Any, arrays: Arrays, labels: Any, key: jax.Array) -> Any:
        augment_key, objective_key, dropout_key = jax.random.split(key, 3)
        augmented = _augment(settings, arrays, augment_key)
        output, updated = networks.depth.apply(
            {"params": params["depth"], "batch_stats": batch_stats["depth"]},
            augmented.inputs["image"],
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": dropout_key},
        )
        new_stats, poses = {"depth": updated["batch_stats"]}, None
        if networks.pose is not None:
            poses, updated = networks.pose.apply(
                {"params": params["pose"], "batch_stats": batch_stats["pose"]},
                *frame_pairs(augmented.inputs),
                train=True,
                mutable=["batch_stats"],
            )
            new_stats["pose"] = updated["batch_stats"]
        total, terms = objective(
            output,
            augmented.plain,
            motions=find_motions(settings, output, augmented.plain, poses),
            teacher=predict_labels(teacher, labels, augmented.plain.image),
            key=objective_key,
        )
        return total, (terms, new_stats)

    return loss


def find_motions(
    settings: Settings, output: DepthOutput, batch: TrainingBatch, poses: Any
) -> dict[str, jax.Array] | None:
    """The camera's motions, by the pose network or by alignment; None if not needed.

    Args:
        settings: of the run.
        output: of the depth network.
        batch: pictures with original colours.
        poses: of the pose network, or None.
    """
    if poses is not None:
        return motions_from_poses(poses)
    if not make_objective(settings).needs_motions or batch.intrinsics is None:
        return None  # the objective raises if they are missing
    ahead = settings.initial_motion
    return align_views(batch.pictures, output.depth, batch.intrinsics, ahead=ahead)


def predict_labels(
    teacher: Monodepth2 | None, variables: Any, images: jax.Array
) -> DepthOutput | None:
    """The teacher's prediction for the images, in original colours, without gradient."""
    if teacher is None:
        return None
    output: Any = teacher.apply(variables, images)
    return jax.lax.stop_gradient(output)


def _norm(tree: Any) -> jax.Array:
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)))


def _averaged(new: TrainingState, old: TrainingState, decay: float | None) -> TrainingState:
    if decay is None:
        return new
    # The average follows more quickly at first, to forget the random weights.
    step = new.step.astype(jnp.float32)
    share = jnp.minimum(decay, (1 + step) / (10 + step))
    current = {"params": new.params["depth"], "batch_stats": new.batch_stats["depth"]}
    average = jax.tree.map(lambda a, x: share * a + (1 - share) * x, old.average, current)
    return dataclasses.replace(new, average=average)


def _guard(old: TrainingState, new: TrainingState, finite: jax.Array) -> TrainingState:
    """The new state if all steps so far are finite; else the old one, marked as diverged."""
    good = finite & ~old.diverged
    state: TrainingState = jax.tree.map(lambda a, b: jnp.where(good, b, a), old, new)
    return dataclasses.replace(state, diverged=~good)
