"""A strict suite: no implicit promotion, warnings are errors, several virtual devices."""

import os
import sys
from importlib.metadata import version

# The suite compiles a thousand small programs and runs each once or twice. (Level 0 would compile
# faster still, but gets some second derivatives wrong: NaN.) Without the newer way to write loops
# it takes three quarters of the time. What users have is tested with XLA_DEFAULTS=1, see Makefile.
FAST = "--xla_backend_optimization_level=1"
# XLA aborts at flags that it does not know, as jaxlib 0.11.2 does at this one.
if tuple(map(int, version("jaxlib").split(".")[:2])) < (0, 11):
    FAST += " --xla_cpu_use_fusion_emitters=false"
if os.environ.get("XLA_DEFAULTS"):
    os.environ.pop("XLA_FLAGS", None)
else:
    os.environ.setdefault("XLA_FLAGS", FAST)
# Nothing of the tests is left in the user's cache, and every run compiles what it tests.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"

import jax

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

import numpy as np
import pytest
from helpers import SmallNet, draw_variables, need_shared, read_log_sigma
from PIL import Image
from results_files import found, write
from shape_checks import check_calls

import grumo_jax
from grumo_jax.data import ImageFolder


def pytest_collection_finish():
    # Not before, since examples are looked for in functions as their modules define them.
    check_calls()


@pytest.fixture(scope="session")
def shared():
    return need_shared


@pytest.fixture(scope="session")
def images():
    return jax.random.uniform(jax.random.key(0), (3, 32, 64, 3))


@pytest.fixture(scope="session")
def tiny(images):
    """A small Monodepth2 with a second head, and its variables."""
    model = grumo_jax.Monodepth2.tiny(predict_uncertainty=True)
    return model, draw_variables(model, images)


@pytest.fixture(scope="module")
def checkpoint(tiny, tmp_path_factory):
    """The small Monodepth2 as a checkpoint directory, of pictures of 32×64."""
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    grumo_jax.save_checkpoint(folder, tiny[0].clone(input_size=(32, 64)), tiny[1])
    return folder


@pytest.fixture(scope="session")
def small(images):
    """A network of another make that compiles in a moment, wrapped, and its variables."""
    network = grumo_jax.wrap(SmallNet(), log_sigma=read_log_sigma, predicts="disparity")
    return network, draw_variables(SmallNet(), images)


@pytest.fixture(scope="session")
def sparse_photos(tmp_path_factory):
    """Five photos of two sizes with sparse depth; the last has none.

    So few pixels that no two are as uncertain but for rounding, which could swap them.
    """
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(5):
        size = (40, 72) if i % 2 else (44, 80)
        for kind in ("rgb", "depth"):
            (root / kind).mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(root / "rgb" / f"{i}.png")
        depth = rng.uniform(2, 40, size) * (rng.random(size) < 0.02) * (i != 4)
        np.save(root / "depth" / f"{i}.npy", depth.astype(np.float32))
    return ImageFolder(root / "rgb", root / "depth")


@pytest.fixture
def mixed(tmp_path):
    """Two good images, a damaged one, an empty one, nulls, and one missing frame."""
    images = {
        "a": {"grad": found(0.25), "depth": found(0.5)},
        "b": "b: damaged or no image",
        "c": {"grad": found(0.75, detection=None, bands=(100, 0)), "depth": found(0.5)},
        "d": {"grad": found(9.0, pixels=0), "depth": found(9.0, pixels=0)},
    }
    return write(tmp_path / "mixed.jsonl", images, missing=["e"])


@pytest.fixture
def grumo(monkeypatch, capsys):
    """Function arguments → (exit status, stdout, stderr) of the program, in this process."""
    from grumo_jax.cli import main

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["grumo", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code, *capsys.readouterr()

    return run


@pytest.fixture
def small_networks(monkeypatch):
    """Trainings train networks of two layers, which can be saved and loaded as Monodepth2 is."""
    from training_runs import Small, SmallPose

    from grumo_jax.networks import checkpoint
    from grumo_jax.training import state

    def of(cls, settings):
        output = "depth" if settings.supervision == "depth" else "disparity"
        dtype = jax.numpy.bfloat16 if settings.bfloat16 else None
        depth = Small(settings.predicts_uncertainty, output, dtype)
        return cls(depth, SmallPose() if state.needs_pose(settings) else None)

    with monkeypatch.context() as small:
        small.setattr(state.Networks, "of", classmethod(of))
        small.setitem(checkpoint.MODELS, "Small", Small)
        yield small


@pytest.fixture(scope="module")
def small_checkpoint(images, tmp_path_factory):
    """A network of two layers as a checkpoint directory, of pictures of 32×64."""
    from training_runs import Small

    from grumo_jax.networks import checkpoint

    class Sized(Small):
        input_size = (32, 64)

    folder = tmp_path_factory.mktemp("checkpoints") / "small"
    model = Sized(predict_uncertainty=True, output="disparity")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(checkpoint.MODELS, "Sized", Sized)
        grumo_jax.save_checkpoint(folder, model, draw_variables(model, images))
        yield folder


@pytest.fixture
def real_networks(small_networks):
    """Take back that networks are small; for what compiles nothing."""
    small_networks.undo()
