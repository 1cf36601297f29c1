import json
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers import draw_variables
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from training_runs import Small

import grumo_jax
from grumo_jax._internal.hashing import content_hash
from grumo_jax.networks.card import seal

TINY = grumo_jax.Monodepth2.tiny()
WIDTHS = {"encoder_widths": TINY.encoder_widths, "decoder_widths": TINY.decoder_widths}


@pytest.fixture
def saved(tiny, tmp_path):
    model = tiny[0].clone(input_size=(64, 96), output="depth")
    grumo_jax.save_checkpoint(tmp_path / "network", model, tiny[1])
    return tmp_path / "network"


def test_round_trip(saved, tiny):
    model, variables = grumo_jax.load_checkpoint(saved)
    assert model == tiny[0].clone(input_size=(64, 96), output="depth")
    jax.tree.map(np.testing.assert_array_equal, variables, tiny[1])


def test_placing_with_a_sharding(saved):
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    replicated = NamedSharding(mesh, PartitionSpec())
    _, variables = grumo_jax.load_checkpoint(saved, sharding=replicated)
    assert all(leaf.sharding == replicated for leaf in jax.tree.leaves(variables))


@pytest.mark.usefixtures("small_networks")
def test_bfloat16_loading(images, tmp_path):
    path = tmp_path / "network"
    grumo_jax.save_checkpoint(path, Small(), draw_variables(Small(), images))
    model, variables = grumo_jax.load_checkpoint(path)
    low_model, low_variables = grumo_jax.load_checkpoint(path, dtype=jnp.bfloat16)
    assert low_model == model.clone(dtype=jnp.bfloat16)
    params = low_variables["params"]
    assert params["conv"]["kernel"].dtype == jnp.bfloat16
    assert params["norm"]["scale"].dtype == jnp.float32
    depth = jax.jit(model.apply)(variables, images).depth
    low_depth = jax.jit(low_model.apply)(low_variables, images).depth
    assert np.any(low_depth != depth)
    np.testing.assert_allclose(low_depth, depth, atol=0.05 * np.abs(depth).max())


def each_file(folder):
    return sorted(file for file in folder.rglob("*") if file.is_file())


def test_every_kind_of_damage_to_every_file_is_noticed(saved):
    for file in each_file(saved):
        content = file.read_bytes()
        damages = {"deleted": None}
        if content:
            middle = len(content) // 2
            flipped = bytes([content[middle] ^ 1])
            damages["truncated"] = content[:middle]
            damages["flipped"] = content[:middle] + flipped + content[middle + 1 :]
        for damage in damages.values():
            file.unlink()
            if damage is not None:
                file.write_bytes(damage)
            with pytest.raises(
                grumo_jax.GrumoError, match=r"network: .*(damaged|incomplete|no che)"
            ):
                grumo_jax.load_checkpoint(saved)
            file.write_bytes(content)
    grumo_jax.load_checkpoint(saved)


def test_one_sentence_for_each_problem(saved, tmp_path, tiny):
    (tmp_path / "empty").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("hello")
    weights = next(f for f in each_file(saved) if f.parent.name == "d")
    cases = {
        "nowhere": "no such directory",
        "empty": "empty; expected a checkpoint directory",
        "other": "no checkpoint of grumo_jax, since it has no checkpoint.json",
    }
    for name, message in cases.items():
        with pytest.raises(grumo_jax.GrumoError, match=f"{name}: {message}"):
            grumo_jax.load_checkpoint(tmp_path / name)
    content = weights.read_bytes()
    weights.write_bytes(content[:-1])
    with pytest.raises(grumo_jax.GrumoError, match=rf"damaged \(.*{weights.name} is not"):
        grumo_jax.load_checkpoint(saved)
    weights.unlink()
    with pytest.raises(grumo_jax.GrumoError, match=rf"incomplete \(.*{weights.name} is mis"):
        grumo_jax.load_checkpoint(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grumo_jax": 2}, "written by a newer grumo_jax"),
        ({"model": "Diffusion"}, "written by a newer grumo_jax"),
        ({"configuration": {"num_heads": 8}}, "options this one does not know"),
        ({"configuration": {"num_layers": 34}}, "content is not what was saved"),
        (
            {"configuration": WIDTHS | {"predict_uncertainty": True}},
            "content is not what was saved",
        ),
        ({"seal": "0"}, r"checkpoint\.json is not what was saved"),
    ],
)
def test_a_checkpoint_of_another_model(saved, change, message):
    card = json.loads((saved / "checkpoint.json").read_text()) | change
    if "seal" not in change:
        card["seal"] = seal(card)
    (saved / "checkpoint.json").write_text(json.dumps(card))
    with pytest.raises(grumo_jax.GrumoError, match=message):
        grumo_jax.load_checkpoint(saved)


def test_saving_never_overwrites_unasked_and_checks_its_input(saved, tiny):
    model, variables = tiny
    with pytest.raises(grumo_jax.GrumoError, match="already exists"):
        grumo_jax.save_checkpoint(saved, model, variables)
    with pytest.raises(grumo_jax.GrumoError, match="are not those of Monodepth2 so configured"):
        grumo_jax.save_checkpoint(
            saved, model.clone(predict_uncertainty=False), variables, overwrite=True
        )
    assert grumo_jax.load_checkpoint(saved)[0].output == "depth", "the old one is still there"
    grumo_jax.save_checkpoint(saved, model, variables, overwrite=True)
    assert grumo_jax.load_checkpoint(saved)[0].output == "disparity"
    assert [path.name for path in saved.parent.iterdir()] == ["network"]


def test_only_checkpoints_are_overwritten(tiny, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "precious.jpg").write_bytes(b"...")
    (tmp_path / "file").write_bytes(b"...")
    for name in ("photos", "file"):
        with pytest.raises(grumo_jax.GrumoError, match=f"{name}: exists and is no checkpoint"):
            grumo_jax.save_checkpoint(tmp_path / name, *tiny, overwrite=True)
    assert (tmp_path / "photos" / "precious.jpg").exists()
    with pytest.raises(grumo_jax.GrumoError, match="cannot be written"):
        grumo_jax.save_checkpoint(tmp_path / "file" / "below", *tiny)


def test_cast_variables_are_not_saved(saved, tmp_path):
    model, variables = grumo_jax.load_checkpoint(saved, dtype=jnp.bfloat16)
    with pytest.raises(grumo_jax.GrumoError, match="hold float32, and these variables are cast"):
        grumo_jax.save_checkpoint(tmp_path / "low", model, variables)


def test_a_failed_rename_brings_the_old_one_back(saved, tiny, monkeypatch):
    rename = Path.rename

    def fail(self, target):
        if target == saved and ".old" not in self.name:
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(grumo_jax.GrumoError, match=r"cannot be written \(No space left"):
        grumo_jax.save_checkpoint(saved, *tiny, overwrite=True)
    monkeypatch.undo()
    assert grumo_jax.load_checkpoint(saved)[0].output == "depth"
    assert [path.name for path in saved.parent.iterdir()] == ["network"]


def test_no_path_of_the_saver_is_in_a_checkpoint(saved):
    files = each_file(saved)
    assert len(files) > 3
    for file in files:
        assert str(saved.parent).encode() not in file.read_bytes(), file


def test_a_killed_save_leaves_the_old_checkpoint(saved):
    script = """
        import os, signal, sys
        import grumo_jax
        from grumo_jax.networks import checkpoint
        model, variables = grumo_jax.load_checkpoint(sys.argv[1])
        checkpoint._write_card = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        grumo_jax.save_checkpoint(sys.argv[1], model, variables, overwrite=True)
    """
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(saved)], check=False
    )
    assert result.returncode == -signal.SIGKILL
    grumo_jax.load_checkpoint(saved)


def test_a_moved_checkpoint_still_loads(saved, tmp_path, monkeypatch):
    variables = grumo_jax.load_checkpoint(saved)[1]
    shutil.move(saved, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    moved = grumo_jax.load_checkpoint("elsewhere")[1]
    jax.tree.map(np.testing.assert_array_equal, moved, variables)


def test_keys_are_hashed_by_their_numbers():
    hashes = {
        content_hash({}, {"count": jnp.uint32(0), "key": jax.random.key(seed)})
        for seed in (0, 0, 1)
    }
    assert len(hashes) == 2
