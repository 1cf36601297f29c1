"""Settings of a training, and the weights it starts from."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from training_runs import SETTINGS, TINY, flip_byte, last_state, run, stop_after

import grumo_jax
from grumo_jax import synthetic
from grumo_jax.networks import checkpoint
from grumo_jax.training.geometry import predict_motions
from grumo_jax.training.loop import TrainingInterrupted
from grumo_jax.training.settings import Settings
from grumo_jax.training.starting import insert_encoder, start_variables
from grumo_jax.training.state import (
    Networks,
    initial_variables,
    make_schedule,
    snapshot_steps,
)
from grumo_jax.training.train import Weights

pytestmark = pytest.mark.usefixtures("small_networks")


# Settings, schedules, weights


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr": "1"}, "there is no setting 'lr'; there are: supervision, base_model, dataset"),
        ({"seed": "x"}, "the setting seed is 'x'; expected a whole number"),
        ({"seed": "-1"}, "the setting seed is -1; expected 0 to 4294967295"),
        ({"flip": "2"}, "the setting flip is 2.0; expected 0 to 1"),
        ({"size": "100,320"}, "the setting size is (100, 320); expected multiples of 32"),
        ({"size": "96"}, "the setting size is 96; expected 2 numbers with commas between them"),
        ({"learning_rate": "nan"}, "the setting learning_rate is 'nan'; expected a number"),
        ({"learning_rate": 0}, "the setting learning_rate is 0.0; expected more than 0"),
        ({"gradient_clip": "no"}, "expected a number or none"),
        ({"bfloat16": 1}, "the setting bfloat16 is 1; expected true or false"),
        ({"schedule": "cyclic"}, "does not go with the base model plain"),
        ({"encoder_widths": "4,4"}, "expected five widths"),
        ({"half_and_crop": "true"}, "half_and_crop is for supervision=depth"),
        ({"rotation_degrees": 5}, "rotation_degrees is for supervision=depth"),
        ({"initial_depth": 500}, "initial_depth is 500.0; expected between min_depth, 0.1, and"),
        ({"hue": 0.9}, "the setting hue is 0.9; expected 0 to 0.5"),
        ({"brightness": 3}, "the setting brightness is 3.0; expected 0 to 1"),
        ({"zoom": [1, float("inf")]}, "(least, most), at least 1"),
        ({"dropout_rate": 1}, "expected at least 0 and less than 1"),
        ({"num_layers": 20}, "the setting num_layers is 20; expected one of 18, 34, 50, 101, 152"),
    ],
    ids=str,
)
def test_settings_that_cannot_be_are_explained(changes, message):
    with pytest.raises(grumo_jax.GrumoError) as caught:
        Settings().replace(changes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_settings_are_frozen_and_static_under_jit():
    settings = Settings(size=[96, 320], epochs=3)
    assert settings.size == (96, 320)
    assert hash(settings) == hash(Settings(size=(96, 320), epochs=3.0))
    assert jax.jit(lambda x, s: x * s.epochs, static_argnums=1)(2.0, settings) == 6
    with pytest.raises(AttributeError):
        settings.seed = 1
    with pytest.raises(TypeError, match="lr"):
        Settings(lr=1)


def test_settings_survive_json():
    from grumo_jax.training.presets import PRESETS

    for settings in PRESETS.values():
        assert Settings().replace(json.loads(json.dumps(settings.to_json()))) == settings


def test_steps_or_epochs_say_how_long():
    assert Settings(epochs=20, batch_size=12).number_of_steps(39810) == 66350
    assert Settings(epochs=20, batch_size=12).number_of_steps(3) == 5
    assert Settings(steps=7).number_of_steps(10) == 7
    assert Settings(steps=7, batch_size=5).replace({"epochs": 3}).number_of_steps(10) == 6
    assert Settings().replace({"epochs": 3, "steps": 7}).number_of_steps(10) == 7


def test_schedules():
    base = {"learning_rate": 1.0}
    warm = make_schedule(Settings(**base, schedule="cosine", warmup_steps=10), 110)
    np.testing.assert_allclose(
        [warm(s) for s in (0, 5, 10, 60, 110)], [0, 0.5, 1, 0.5, 0], atol=1e-6
    )
    snap = Settings(**base, base_model="snap", schedule="cyclic", cycles=4, snapshots=2)
    cyclic = make_schedule(snap, 10)
    rates = [float(cyclic(jnp.int32(s))) for s in range(10)]
    assert [s for s in range(1, 10) if rates[s] > rates[s - 1]] == [3, 5, 8]
    assert snapshot_steps(snap, 10) == {8: 2, 10: 3}


# What a run starts from


def torchvision_state(widths=(4, 4, 4, 8, 8)):
    """Random weights of a ResNet-18 in torchvision's names and shapes."""
    rng, state = np.random.default_rng(0), {}

    def conv(name, out, inputs, size):
        state[f"{name}.weight"] = rng.normal(size=(out, inputs, size, size)).astype(np.float32)

    def norm(name, width):
        for entry in ("weight", "bias", "running_mean", "running_var"):
            state[f"{name}.{entry}"] = rng.uniform(1, 2, width).astype(np.float32)
        state[f"{name}.num_batches_tracked"] = 7

    conv("conv1", widths[0], 3, 7)
    norm("bn1", widths[0])
    for i, (width, inputs) in enumerate(zip(widths[1:], widths, strict=False), start=1):
        for j, into in enumerate((inputs, width)):
            name = f"layer{i}.{j}"
            conv(f"{name}.conv1", width, into, 3)
            conv(f"{name}.conv2", width, width, 3)
            norm(f"{name}.bn1", width)
            norm(f"{name}.bn2", width)
        if inputs != width or i > 1:
            conv(f"layer{i}.0.downsample.0", width, inputs, 1)
            norm(f"layer{i}.0.downsample.1", width)
    return state | {"fc.weight": np.zeros((10, widths[-1])), "fc.bias": np.zeros(10)}


def test_encoders_start_from_imagenet_weights(real_networks):
    state = torchvision_state()
    variables = initial_variables(Settings("mono", **TINY))
    result = insert_encoder(variables, state)
    depth, pose = (result[name]["params"]["encoder"] for name in ("depth", "pose"))
    first = state["conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(depth["conv1"]["kernel"], first)
    # Two equal pictures give what one gives in the depth network.
    np.testing.assert_allclose(pose["conv1"]["kernel"].reshape(7, 7, 2, 3, 4).sum(axis=2), first)
    for encoder in (depth, pose):
        np.testing.assert_array_equal(
            encoder["layer2"]["block0"]["downsample_bn"]["scale"],
            state["layer2.0.downsample.1.weight"],
        )
    statistics = result["pose"]["batch_stats"]["encoder"]["bn1"]["mean"]
    np.testing.assert_array_equal(statistics, state["bn1.running_mean"])
    for name, kept in (("depth", "decoder"), ("pose", "squeeze")):
        jax.tree.map(
            np.testing.assert_array_equal,
            result[name]["params"][kept],
            variables[name]["params"][kept],
        )
    with pytest.raises(grumo_jax.GrumoError, match="encoder, for the depth network"):
        insert_encoder(variables, torchvision_state((4, 4, 4, 8, 16)))


def test_the_first_guess_is_the_initial_depth(real_networks):
    for supervision in ("depth", "stereo"):
        settings = Settings(supervision, **TINY, initial_depth=3.0)
        variables = initial_variables(settings)["depth"]
        for scale in range(4):
            bias = variables["params"]["decoder"][f"head_{scale}"]["bias"]
            model = Networks.of(settings).depth
            guess = bias if supervision == "depth" else model.disparity_to_depth(nn.sigmoid(bias))
            np.testing.assert_allclose(guess, 3.0, rtol=1e-5)
    same, other = (initial_variables(Settings("depth", **TINY, seed=s))["depth"] for s in (0, 1))
    kernel = same["params"]["decoder"]["up_4_0"]["conv"]["kernel"]
    np.testing.assert_allclose(jnp.std(kernel), (9 * 8) ** -0.5, rtol=0.2)
    assert not np.allclose(kernel, other["params"]["decoder"]["up_4_0"]["conv"]["kernel"])


@pytest.mark.slow
def test_the_first_guess_is_the_initial_motion(real_networks):
    settings = Settings("mono", **TINY, initial_motion=0.25)
    variables = initial_variables(settings)["pose"]
    # Without the last layer's weights, what is left is its bias.
    head = {**variables["params"]["pose"], "kernel": 0 * variables["params"]["pose"]["kernel"]}
    variables = {**variables, "params": {**variables["params"], "pose": head}}
    frames = dict.fromkeys(("previous", "image", "following"), jnp.ones((1, *settings.size, 3)))
    pose = Networks.of(settings).pose
    motions = predict_motions(lambda a, b: pose.apply(variables, a, b), frames)
    for name, time in (("previous", -1), ("following", 1)):
        ahead = synthetic.make_camera().replace(position=jnp.array([0.0, -1.65, 0.25 * time]))
        expected = synthetic.motion(synthetic.make_camera(), ahead)
        np.testing.assert_allclose(motions[name][0], expected, atol=1e-6)


def test_networks_are_those_of_the_settings(real_networks):
    networks = Networks.of(Settings("stereo", "drop", **TINY, bfloat16=True))
    assert networks.depth.dtype == jnp.bfloat16
    assert networks.depth.dropout_rate == 0.2
    assert networks.depth.input_size == (32, 64)
    assert networks.pose is None
    assert Networks.of(Settings("mono", **TINY)).pose.dtype is None
    assert Networks.of(Settings("mono", "self", **TINY)).pose is None


@pytest.mark.slow
def test_a_run_starts_from_another_run_finished_or_not(tmp_path):
    with pytest.raises(TrainingInterrupted):
        run(tmp_path / "first", should_stop=stop_after(5))
    unfinished = start_variables(SETTINGS, init=tmp_path / "first")
    result = run(tmp_path / "first")
    finished = start_variables(SETTINGS, init=tmp_path / "first")
    jax.tree.map(np.testing.assert_array_equal, finished["depth"], result.variables)
    kernels = [v["depth"]["params"]["conv"]["kernel"] for v in (unfinished, finished)]
    assert not np.allclose(*kernels)
    again = start_variables(SETTINGS, init=result.checkpoint)
    jax.tree.map(np.testing.assert_array_equal, again["depth"], result.variables)
    # The network alone is needed, whatever became of the states.
    flip_byte(last_state(tmp_path / "first"))
    run(tmp_path / "second", weights=Weights(init=tmp_path / "first"))
    recorded = json.loads((tmp_path / "second" / "run.json").read_text())["init"]
    assert recorded == checkpoint.checkpoint_hash(result.checkpoint)


def test_heads_that_were_not_stored_start_at_random(real_networks, tmp_path):
    plain = Settings("depth", **TINY, seed=1)
    stored = initial_variables(plain)["depth"]
    grumo_jax.save_checkpoint(tmp_path / "plain", Networks.of(plain).depth, stored)
    settings = plain.replace({"base_model": "log", "seed": 2})
    decoder = start_variables(settings, init=tmp_path / "plain")["depth"]["params"]["decoder"]
    own = initial_variables(settings)["depth"]["params"]["decoder"]
    np.testing.assert_array_equal(
        decoder["up_0_1"]["conv"]["kernel"], stored["params"]["decoder"]["up_0_1"]["conv"]["kernel"]
    )
    np.testing.assert_array_equal(
        decoder["uncertainty_head_0"]["kernel"], own["uncertainty_head_0"]["kernel"]
    )
    with pytest.raises(grumo_jax.GrumoError, match=r"has shape .* and this training needs"):
        start_variables(settings.replace({"decoder_widths": "8,4,4,4,4"}), init=tmp_path / "plain")


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"num_layers": 34}, "num_layers 18 and not 34"),
        ({"supervision": "stereo"}, "output depth and not disparity"),
        ({"max_depth": 80}, "max_depth 100.0 and not 80.0"),
    ],
    ids=str,
)
def test_networks_that_mean_something_else_are_refused(
    real_networks, tmp_path, changes, difference
):
    plain = Settings("depth", **TINY)
    model = Networks.of(plain).depth
    grumo_jax.save_checkpoint(tmp_path / "plain", model, initial_variables(plain)["depth"])
    with pytest.raises(grumo_jax.GrumoError, match=f"plain: is of another .* {difference}$"):
        start_variables(plain.replace(changes), init=tmp_path / "plain")
