"""Exported estimators: the same results from a file, with and without this library."""

import hashlib
import os
import resource
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

import grumo_jax
from grumo_jax import export_estimator, load_exported
from grumo_jax.errors import CheckpointError, GrumoError

SERVE = """
import sys
import jax
import numpy as np

images = np.load(sys.argv[1])
program = jax.export.deserialize(bytearray(open(sys.argv[2], "rb").read()))
maps = jax.jit(program.call)(images, np.uint32(7))
np.savez(sys.argv[3], **maps)
assert not any(name.startswith(("grumo_jax", "flax")) for name in sys.modules)
"""


@pytest.fixture(scope="module")
def estimator(small):
    return grumo_jax.GradientUncertainty.averaged(small[0], layers=("up2", "up1"))


@pytest.fixture(scope="module")
def file(small, estimator, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "grad.jaxexport"
    return export_estimator(path, estimator, small[1], (3, 32, 64))


@pytest.mark.defaults
def test_results_are_the_estimators(file, estimator, small, images):
    exported = load_exported(file)
    assert (exported.shape, exported.platforms) == ((3, 32, 64, 3), ("cpu", "cuda", "rocm", "tpu"))
    expected = estimator(small[1], images, jax.random.key(7))
    for found in (exported(images, 7), jax.jit(exported)(images, jnp.uint32(7))):
        for name in ("depth", "uncertainty", "raw"):
            np.testing.assert_allclose(
                getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-5
            )


def test_jax_alone_can_serve_it(file, images, estimator, small, tmp_path):
    np.save(tmp_path / "images.npy", images)
    command = [sys.executable, "-c", SERVE, tmp_path / "images.npy", file, tmp_path / "maps.npz"]
    subprocess.run(command, check=True)
    expected = estimator(small[1], images, jax.random.key(7))
    maps = np.load(tmp_path / "maps.npz")
    np.testing.assert_allclose(maps["uncertainty"], expected.uncertainty, atol=1e-4)


def test_mistakes_are_said(file, small, images, estimator, tmp_path):
    exported = load_exported(file)
    with pytest.raises(GrumoError, match=r"images have shape \(2, 32, 64, 3\); this takes \(3,"):
        exported(images[:2])
    with pytest.raises(GrumoError, match="there is no platform 'gpu'; choose of 'cpu', 'cuda'"):
        export_estimator(tmp_path / "x", estimator, small[1], (1, 32, 64), platforms=["gpu"])
    elsewhere = grumo_jax.ConstantBaseline(small[0])
    path = export_estimator(tmp_path / "x", elsewhere, small[1], (3, 32, 64), platforms=["tpu"])
    with pytest.raises(GrumoError, match="exported for tpu and runs on a cpu here"):
        load_exported(path)(images)
    with pytest.raises(CheckpointError, match=r"nothing: no such file"):
        load_exported(tmp_path / "nothing")
    content = file.read_bytes()
    for damaged in (b"", b"no program", content[: len(content) // 2], content[100:]):
        (tmp_path / "damaged").write_bytes(damaged)
        with pytest.raises(CheckpointError, match="damaged: no exported estimator, or damaged"):
            load_exported(tmp_path / "damaged")


def test_other_channels_than_three(tmp_path):
    class Gray(nn.Module):
        @nn.compact
        def __call__(self, x):
            return nn.softplus(nn.Conv(1, (3, 3), name="head")(x))

    images = jax.random.uniform(jax.random.key(0), (2, 16, 32, 1))
    variables = Gray().init(jax.random.key(1), images)
    grad = grumo_jax.GradientUncertainty(Gray(), layers="head")
    path = export_estimator(tmp_path / "x", grad, variables, images.shape, platforms="cpu")
    exported = load_exported(path)
    assert exported.shape == (2, 16, 32, 1)
    expected = grad(variables, images)
    np.testing.assert_allclose(exported(images).raw, expected.raw, rtol=1e-4)


@pytest.mark.parametrize("shape", [(0, 32, 64), (1, -2, 64), (32, 64), (1.0, 32, 64), 32])
def test_shapes_of_images_are_checked(small, estimator, tmp_path, shape):
    with pytest.raises(GrumoError, match=r"shape is .*; expected \(batch, height, width\), each 1"):
        export_estimator(tmp_path / "x", estimator, small[1], shape)


def test_one_platform_is_as_good_as_a_tuple_of_one(small, tmp_path):
    constant = grumo_jax.ConstantBaseline(small[0])
    path = export_estimator(tmp_path / "x", constant, small[1], (1, 32, 64), platforms="cpu")
    assert load_exported(path).platforms == ("cpu",)
    with pytest.raises(GrumoError, match="platforms is empty; choose of 'cpu', 'cuda'"):
        export_estimator(path, constant, small[1], (1, 32, 64), platforms=())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "int32", "uint8"])
def test_images_of_another_dtype_are_refused(file, images, dtype):
    with pytest.raises(GrumoError, match=f"images are {dtype}; expected float32"):
        load_exported(file)(images.astype(dtype))


@pytest.mark.parametrize("seed", [-1, 2**32, np.int64(-1), 0.5])
def test_seeds_out_of_range_are_refused(file, images, seed):
    with pytest.raises(GrumoError, match=f"seed is {seed}; expected an integer from 0 to 42949672"):
        load_exported(file)(images, seed)


@pytest.mark.parametrize("make_key", [jax.random.key, jax.random.PRNGKey])
def test_a_key_is_no_seed(file, images, make_key):
    with pytest.raises(GrumoError, match=r"seed is .*; expected an integer from .*, and no key"):
        load_exported(file)(images, make_key(0))


@pytest.mark.slow
def test_other_programs_are_refused_without_asserts_too(tmp_path):
    form = jax.ShapeDtypeStruct((3,), jnp.float32)
    program = jax.export.export(jax.jit(lambda x: {"depth": x}))(form)
    (tmp_path / "other").write_bytes(program.serialize())
    load = "import sys, grumo_jax; grumo_jax.load_exported(sys.argv[1])"
    command = [sys.executable, "-O", "-c", load, tmp_path / "other"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"CheckpointError: {tmp_path}/other: no exported estimator" in result.stderr


def test_the_command(grumo, small_checkpoint, checkpoint, images, tmp_path):
    file = tmp_path / "post.jaxexport"
    options = ["--estimator", "post", "--batch-size", "3", "--platform", "cpu"]
    code, out, _ = grumo("export", small_checkpoint, file, *options)
    assert (code, out.startswith(f"{file}: images (3, 32, 64, 3), ")) == (0, True)
    model, variables = grumo_jax.load_checkpoint(small_checkpoint)
    expected = grumo_jax.PostProcessing(model)(variables, images)
    np.testing.assert_allclose(load_exported(file)(images).depth, expected.depth, rtol=1e-4)
    code, _, err = grumo("export", small_checkpoint, tmp_path)
    assert (code, err) == (2, f"grumo: {tmp_path}: a folder; name the file to write\n")
    code, _, err = grumo("export", checkpoint, file, "--size", "30", "60")
    assert code == 2
    assert "height and width must be multiples of 32" in err
    code, _, err = grumo("export", small_checkpoint, file, "--size", "0", "0")
    sentence = (
        "shape is (1, 0, 0); expected (batch, height, width), each 1 or more, and a fourth number "
        "where channels are not 3"
    )
    assert (code, err) == (2, f"grumo: {sentence}\n")


def test_one_wrong_bit_is_noticed(file, tmp_path):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "wrong").write_bytes(content)
    with pytest.raises(CheckpointError, match="no exported estimator, or damaged"):
        load_exported(tmp_path / "wrong")


def sealed(path, function, *forms):
    """Write a program with the right seal, as anybody can."""
    program = jax.export.export(jax.jit(function))(*forms).serialize()
    path.write_bytes(program + hashlib.sha256(program).digest())
    return path


def test_programs_of_another_form_are_refused(tmp_path):
    names = ("depth", "uncertainty", "raw")
    images = jax.ShapeDtypeStruct((1, 32, 64, 3), jnp.float32)
    seed = jax.ShapeDtypeStruct((), jnp.uint32)

    def maps(x, seed=None):
        return dict.fromkeys(names, x[..., 0])

    load_exported(sealed(tmp_path / "right", maps, images, seed))
    others = {
        "of one argument": (maps, images),
        "of no argument": (lambda: dict.fromkeys(names, jnp.zeros((1, 32, 64))),),
        "of small images": (maps, jax.ShapeDtypeStruct((1, 3), jnp.float32), seed),
        "of other dtypes": (maps, jax.ShapeDtypeStruct(images.shape, jnp.int32), seed),
        "of a list": (lambda x, seed: [x[..., 0]] * 3, images, seed),
        "of other maps": (lambda x, seed: dict.fromkeys(names, x), images, seed),
    }
    for name, program in others.items():
        with pytest.raises(CheckpointError, match=f"{name}: no exported estimator, or damaged"):
            load_exported(sealed(tmp_path / name, *program))


def test_files_of_any_size_and_kind_are_refused(tmp_path):
    with (tmp_path / "large").open("wb") as stream:
        stream.truncate(2**29)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    os.mkfifo(tmp_path / "pipe")
    for name, message in {"large": "no exported", "pipe": "a pipe", "": "a folder"}.items():
        with pytest.raises(CheckpointError, match=f"{name}: {message}"):
            load_exported(tmp_path / name)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**17, "KiB"
