"""PyTorch weights: real files of PyTorch's own making, and everything that can be wrong."""

import os
import pickle

import jax
import numpy as np
import pytest

import grumo_jax
from grumo_jax.networks.porting import load_torch_state, port_torch_files


def torch_layout(model, variables):
    """The inverse of porting, for networks of any width: Flax variables to PyTorch names."""
    encoder, decoder = {}, {}
    names = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
    for tree in variables.values():
        for path, leaf in jax.tree.leaves_with_path(tree["encoder"]):
            *parts, kind = [entry.key for entry in path]
            name = ".".join(parts).replace("block", "").replace("downsample_conv", "downsample.0")
            name = name.replace("downsample_bn", "downsample.1")
            array = np.asarray(leaf)
            if kind == "kernel":
                encoder[f"encoder.{name}.weight"] = array.transpose(3, 2, 0, 1)
            else:
                encoder[f"encoder.{name}.{names[kind]}"] = array
    params = variables["params"]["decoder"]
    blocks = [params[name.split("/")[1]]["conv"] for name in model.dropout_layers]
    heads = ("head", "uncertainty_head") if model.predict_uncertainty else ("head",)
    blocks += [params[f"{head}_{scale}"] for scale in range(4) for head in heads]
    for n, block in enumerate(blocks):
        name = f"decoder.{n}.conv" + ".conv" * (n < 10)
        decoder[f"{name}.weight"] = np.asarray(block["kernel"]).transpose(3, 2, 0, 1)
        decoder[f"{name}.bias"] = np.asarray(block["bias"])
    return encoder, decoder


@pytest.fixture(scope="module")
def states(tiny):
    encoder, decoder = torch_layout(*tiny)
    extra = {
        "height": 64,
        "width": 96,
        "use_stereo": False,
        "encoder.fc.weight": np.zeros((10, 16), np.float32),
        "encoder.fc.bias": np.zeros(10, np.float32),
        "encoder.bn1.num_batches_tracked": np.array(5),
    }
    return encoder | extra, decoder


def test_architecture_and_weights_are_read_off_the_states(tiny, states):
    model, variables = grumo_jax.port_monodepth2(*states)
    assert model == tiny[0].clone(input_size=(64, 96))
    jax.tree.map(np.testing.assert_array_equal, variables, tiny[1])


@pytest.mark.parametrize(
    "num_layers", [34, 50, *(pytest.param(n, marks=pytest.mark.slow) for n in (101, 152))]
)
def test_other_depths(num_layers):
    widths = {"encoder_widths": (4, 4, 4, 4, 4), "decoder_widths": (2, 2, 2, 2, 2)}
    model = grumo_jax.Monodepth2(num_layers, output="depth", **widths)
    images = np.zeros((1, 32, 32, 3), np.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), images)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda s: rng.uniform(size=s.shape).astype(np.float32), shapes)
    ported, values = grumo_jax.port_monodepth2(*torch_layout(model, variables), output="depth")
    assert ported == model
    jax.tree.map(np.testing.assert_array_equal, values, variables)


def changed(state, **changes):
    new = {name: value for name, value in state.items() if changes.get(name, 0) is not None}
    return new | {name: value for name, value in changes.items() if value is not None}


@pytest.mark.parametrize(
    ("encoder", "decoder", "message"),
    [
        (
            {"encoder.layer2.0.conv2.weight": None},
            {},
            r"params/encoder/layer2/block0/conv2/kernel is missing",
        ),
        ({"encoder.bn1.running_var": None}, {}, r"batch_stats/encoder/bn1/var is missing"),
        ({"encoder.conv1.weight": None}, {}, r"encoder state: encoder.conv1.weight is missing"),
        ({}, {"decoder.9.conv.conv.weight": None}, r"decoder.9.conv.conv.weight is missing"),
        ({"encoder.extra": np.zeros(3)}, {}, r"encoder state: encoder.extra is not known"),
        ({}, {"decoder.99.conv.bias": np.zeros(1)}, r"decoder.99.conv.bias is not known"),
        (
            {"encoder.bn1.weight": np.zeros(3, np.float32)},
            {},
            r"params/encoder/bn1/scale has shape \(3,\); this network needs \(8,\)",
        ),
        (
            {"encoder.conv1.weight": np.zeros((8, 3), np.float32)},
            {},
            r"encoder.conv1.weight has shape \(8, 3\); expected 4 dimensions",
        ),
        (
            {"encoder.layer3.1.conv1.weight": None, "encoder.layer3.1.conv2.weight": None},
            {},
            r"is missing|are missing",
        ),
        (
            {"encoder.layer1.7.conv1.weight": np.zeros((8, 8, 3, 3), np.float32)},
            {},
            r"stages of \(3, 2, 2, 2\) basic blocks are no ResNet",
        ),
    ],
)
def test_each_defect_is_one_clear_error(states, encoder, decoder, message):
    with pytest.raises(grumo_jax.GrumoError, match=message):
        grumo_jax.port_monodepth2(changed(states[0], **encoder), changed(states[1], **decoder))


# What follows reads files that PyTorch wrote and runs where PyTorch is installed.


def to_torch(state):
    import torch

    return {
        name: torch.from_numpy(value.copy()) if isinstance(value, np.ndarray) else value
        for name, value in state.items()
    }


@pytest.fixture(params=["zip", "legacy"])
def folder(request, states, tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: convert)")
    for name, state in zip(("encoder.pth", "depth.pth"), states, strict=True):
        torch.save(
            to_torch(state),
            tmp_path / name,
            _use_new_zipfile_serialization=request.param == "zip",
        )
    return tmp_path


def test_files_in_both_formats(folder, tiny):
    model, variables = port_torch_files(folder)
    assert model.input_size == (64, 96)
    jax.tree.map(np.testing.assert_array_equal, variables, tiny[1])
    again, _ = port_torch_files(folder / "encoder.pth", folder / "depth.pth", output="depth")
    assert again.output == "depth"


class Malicious:
    """Unpickling it would create a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, legacy):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: convert)")
    marker, file = tmp_path / "executed", tmp_path / "encoder.pth"
    state = {"encoder.conv1.weight": Malicious(marker)}
    torch.save(state, file, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(grumo_jax.GrumoError, match="carries more than weights"):
        load_torch_state(file)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Malicious(marker)))
    assert marker.exists(), "the file was harmless, so the test showed nothing"


def test_damaged_and_missing_files(tmp_path, folder):
    pytest.importorskip("torch", reason="PyTorch is not installed (extra: convert)")
    whole = (folder / "encoder.pth").read_bytes()
    damaged = {
        "truncated": whole[: len(whole) // 2],
        "empty": b"",
        "text": b"not a model",
    }
    for name, content in damaged.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(grumo_jax.GrumoError, match=f"{name}: (damaged|refused)"):
            load_torch_state(tmp_path / name)
    with pytest.raises(grumo_jax.GrumoError, match=r"nowhere\.pth: no such file"):
        load_torch_state(tmp_path / "nowhere.pth")
    with pytest.raises(grumo_jax.GrumoError, match="not a directory"):
        port_torch_files(folder / "encoder.pth")


def test_a_file_that_holds_no_state_dict(tmp_path):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: convert)")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(grumo_jax.GrumoError, match="holds a list; expected a state dict"):
        load_torch_state(tmp_path / "list.pth")
