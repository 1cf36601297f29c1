"""Train the small network that ships with the library, from scratch, on synthetic frames alone.

Command: python experiments/train_demo.py --out checkpoints/synthetic
Data:    streets and rooms of `grumo_jax.synthetic`, rendered on the fly; no frame is seen twice.
Time:    one hour on one shared CPU core (4500 steps of 8 frames).
Result:  on 128 held-out frames of each kind, depths up to 80 m, in brackets after scaling by the
         medians: streets abs_rel 0.341 (0.265), a1 0.510 (0.616); rooms abs_rel 0.243 (0.161),
         a1 0.596 (0.762). 867,480 numbers, 3.4 MB. Rounding makes other machines differ a little.

The loss is the negative log-likelihood of a Laplace distribution of log-depth, with a scale that
the uncertainty heads predict, at all four scales. Needs the `train` extra.
"""

import argparse
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from tqdm import tqdm

import grumo_jax
from grumo_jax import synthetic

SIZE = (128, 320)
STREET_SHARE = 0.625
KINDS: tuple[synthetic.Kind, ...] = ("street", "room")
EVALUATION_SEED = 1_000_003
"""Root of the held-out frames' keys; training keys come from `--seed`."""
STATISTICS_BATCHES = 64
"""Batches over which the final statistics of BatchNorm are taken."""
SKY_WEIGHT = 0.1
MODEL = grumo_jax.Monodepth2(
    num_layers=18,
    predict_uncertainty=True,
    encoder_widths=(16, 16, 32, 64, 128),
    decoder_widths=(8, 16, 24, 32, 48),
    min_depth=0.5,
    max_depth=100.0,
    input_size=SIZE,
)


@struct.dataclass
class State:
    """What a training step updates: the network's variables and the optimiser's."""

    params: Any
    batch_stats: Any
    optimiser: Any


def frames(key: jax.Array, kind: synthetic.Kind, number: int) -> tuple[jax.Array, jax.Array]:
    """Images (number, H, W, 3) and depths (number, H, W) of random scenes."""
    keys = jax.random.split(key, number)
    rendered = [synthetic.random_frame(k, kind=kind, size=SIZE) for k in keys]
    return jnp.stack([f.image for f in rendered]), jnp.stack([f.depth for f in rendered])


def augment(key: jax.Array, image: jax.Array, depth: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Flip, blur, recolour and add noise to one image (H, W, 3) in [0, 1]."""
    keys = jax.random.split(key, 6)
    flip, grey = jax.random.bernoulli(keys[0], jnp.array([0.5, 0.1]))
    image = jnp.where(flip, image[:, ::-1], image)
    depth = jnp.where(flip, depth[:, ::-1], depth)
    blur = jax.random.uniform(keys[1], (2,))
    for axis in (0, 1):
        around = (jnp.roll(image, 1, axis) + jnp.roll(image, -1, axis)) / 2
        image = image + 0.5 * blur[axis] * (around - image)
    gain, contrast, colour, gamma = jax.random.uniform(keys[2], (4,), minval=-1.0)
    cast = jax.random.uniform(keys[3], (1, 1, 3), minval=0.92, maxval=1.08)
    image = jnp.clip(image, 1e-3, 1) ** jnp.exp(0.25 * gamma)
    mean = image.mean()
    image = (mean + (image - mean) * (1 + 0.3 * contrast)) * (1 + 0.2 * gain) * cast
    luma = image.mean(axis=-1, keepdims=True)
    image = luma + (image - luma) * jnp.where(grey, 0, 1 + 0.5 * colour)
    noise = jax.random.normal(keys[4], image.shape) * jax.random.uniform(keys[5], maxval=0.04)
    return jnp.clip(image + noise, 0, 1), depth


augment_all = jax.jit(jax.vmap(augment))


def training_batch(key: jax.Array, batch: int) -> tuple[jax.Array, jax.Array]:
    """Augmented images (batch, H, W, 3) and depths (batch, H, W)."""
    street, room, extra = jax.random.split(key, 3)
    number = round(STREET_SHARE * batch)
    parts = [frames(street, "street", number), frames(room, "room", batch - number)]
    images, depths = (jnp.concatenate(pair) for pair in zip(*parts, strict=True))
    return augment_all(jax.random.split(extra, batch), images, depths)


def loss_fn(output: grumo_jax.DepthOutput, depths: jax.Array) -> jax.Array:
    """Mean over the scales of |log d − log d*|·exp(−s) + s, all at full resolution."""
    target = jnp.log(jnp.where(depths > 0, depths, MODEL.max_depth))
    target = jnp.clip(target, jnp.log(MODEL.min_depth), jnp.log(MODEL.max_depth))
    weight = jnp.where(depths > 0, 1.0, SKY_WEIGHT)
    assert output.log_sigmas is not None
    total = jnp.float32(0)
    for depth, log_sigma in zip(output.depths, output.log_sigmas, strict=True):
        both = jnp.stack([jnp.log(depth), log_sigma], axis=-1)
        full = jax.image.resize(both, (*target.shape, 2), "bilinear")
        # Below this the likelihood of flat, easy pixels would outweigh everything else.
        s = jnp.maximum(full[..., 1], -4.0)
        total += jnp.sum(weight * (jnp.abs(full[..., 0] - target) * jnp.exp(-s) + s))
    return total / (len(output.depths) * weight.sum())


def make_optimiser(steps: int) -> optax.GradientTransformation:
    """AdamW with a warm-up and a cosine decay to zero."""
    rate = optax.warmup_cosine_decay_schedule(0.0, 2e-3, min(200, steps // 10), steps)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, weight_decay=1e-3))


def initial_state(key: jax.Array, optimiser: optax.GradientTransformation) -> State:
    """Random weights whose first guess is a depth of about 10 m everywhere."""
    variables = jax.jit(MODEL.init)(key, jnp.zeros((1, *SIZE, 3)))

    def start(path: Any, leaf: jax.Array) -> jax.Array:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        return leaf - 3 if "/head_" in name and name.endswith("bias") else leaf

    params = jax.tree_util.tree_map_with_path(start, variables["params"])
    return State(params, variables["batch_stats"], optimiser.init(params))


def make_step(
    optimiser: optax.GradientTransformation,
) -> Callable[[State, jax.Array, jax.Array], tuple[State, jax.Array]]:
    """The jitted training step: (state, images, depths) to (state, loss)."""

    def step(state: State, images: jax.Array, depths: jax.Array) -> tuple[State, jax.Array]:
        def objective(params: Any) -> tuple[jax.Array, Any]:
            variables = {"params": params, "batch_stats": state.batch_stats}
            output, updated = MODEL.apply(variables, images, train=True, mutable=["batch_stats"])
            return loss_fn(output, depths), updated["batch_stats"]

        (loss, stats), grads = jax.value_and_grad(objective, has_aux=True)(state.params)
        updates, moments = optimiser.update(grads, state.optimiser, state.params)
        return State(optax.apply_updates(state.params, updates), stats, moments), loss

    return jax.jit(step, donate_argnums=0)


@jax.jit
def own_statistics(state: State, images: jax.Array) -> Any:
    """BatchNorm statistics of one batch alone."""
    nothing = jax.tree.map(jnp.zeros_like, state.batch_stats)
    variables = {"params": state.params, "batch_stats": nothing}
    _, updated = MODEL.apply(variables, images, train=True, mutable=["batch_stats"])
    # The network's BatchNorm keeps 0.9 of what it had, here nothing.
    return jax.tree.map(lambda x: x / 0.1, updated["batch_stats"])


def settle(state: State, batches: Iterable[jax.Array]) -> dict[str, Any]:
    """The network's variables, with statistics over many batches instead of about the last ten."""
    statistics = [own_statistics(state, images) for images in batches]
    mean = jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *statistics)
    return {"params": state.params, "batch_stats": mean}


@jax.jit
def scores(variables: Any, image: jax.Array, truth: jax.Array) -> dict[str, jax.Array]:
    """abs_rel and a1 of one frame up to 80 m, as they are and after scaling by the medians."""
    output: Any = MODEL.apply(variables, image[None])
    predicted = output.depth[0]
    valid = (truth > 0) & (truth < 80)
    scale = jnp.nanmedian(jnp.where(valid, truth, jnp.nan))
    scale /= jnp.nanmedian(jnp.where(valid, predicted, jnp.nan))
    truth = jnp.where(valid, truth, 1)
    result = {}
    for suffix, depth in (("", predicted), (" (scaled)", predicted * scale)):
        ratio = jnp.maximum(truth / depth, depth / truth)
        result["abs_rel" + suffix] = jnp.mean(jnp.abs(depth - truth) / truth, where=valid)
        result["a1" + suffix] = jnp.mean(ratio < 1.25, where=valid)
    return result


def evaluate(variables: Any, kind: synthetic.Kind, number: int = 128) -> dict[str, float]:
    """Mean scores over held-out frames."""
    pairs = zip(*frames(jax.random.key(EVALUATION_SEED), kind, number), strict=True)
    frame_scores = [scores(variables, image, truth) for image, truth in pairs]
    return {name: sum(float(s[name]) for s in frame_scores) / number for name in frame_scores[0]}


def main() -> None:
    """Train, evaluate on frames of other seeds, and save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--steps", type=int, default=4500)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="checkpoints/synthetic")
    options = parser.parse_args()
    if Path(options.out).exists():
        parser.error(f"{options.out} exists already")

    optimiser = make_optimiser(options.steps)
    init_key, data_key = jax.random.split(jax.random.key(options.seed))
    state, step = initial_state(init_key, optimiser), make_step(optimiser)

    def batch(i: int) -> tuple[jax.Array, jax.Array]:
        return training_batch(jax.random.fold_in(data_key, i), options.batch)

    progress = tqdm(range(options.steps), disable=not sys.stderr.isatty())
    for i in progress:
        images, depths = batch(i)
        state, loss = step(state, images, depths)
        if i % 50 == 0:
            progress.set_postfix(loss=f"{float(loss):.3f}")

    more = range(options.steps, options.steps + STATISTICS_BATCHES)
    variables = settle(state, (batch(i)[0] for i in more))
    for kind in KINDS:
        results = evaluate(variables, kind)
        print(kind, *(f"{name} {value:.3f}" for name, value in results.items()), sep="  ")
    grumo_jax.save_checkpoint(options.out, MODEL, variables)


if __name__ == "__main__":
    main()
