"""Checkpoints that anybody may have made: what the card says is checked before it is believed."""

import json
import os
import resource
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import grumo_jax
from grumo_jax.errors import CheckpointError, GrumoWarning
from grumo_jax.networks import checkpoint
from grumo_jax.networks.card import CARD, seal

HASH = "0" * 64


@pytest.fixture(scope="module")
def saved(tiny, tmp_path_factory):
    """A checkpoint; tests that change it copy it."""
    folder = tmp_path_factory.mktemp("checkpoints") / "network"
    grumo_jax.save_checkpoint(folder, *tiny)
    return folder


@pytest.fixture
def copied(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "network")


def forge(folder, configuration, **changes):
    """Change a card and its network's configuration, and seal it, as anybody can."""
    card = json.loads((folder / CARD).read_text()) | changes
    card["configuration"] |= configuration
    (folder / CARD).write_text(json.dumps({**card, "seal": seal(card)}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grumo_jax": None}, "has no version"),
        ({"grumo_jax": True}, "has no version"),
        ({"model": None}, "has no model"),
        ({"model": ["Monodepth2"]}, r"model is \['Monodepth2'\]; expected str"),
        ({"sha256": None}, "has no sha256"),
        ({"sha256": 7}, "sha256 is 7; expected str"),
        ({"sha256": "abc"}, "has 'abc' for the SHA-256 of 'the network'"),
        ({"files": None}, "has no files"),
        ({"files": ["a"]}, r"files is \['a'\]; expected dict\[str, str\]"),
        ({"files": {"a": 1}}, r"files is {'a': 1}; expected dict\[str, str\]"),
        ({"files": {"a": "x"}}, "has 'x' for the SHA-256 of 'a'"),
        ({"files": {"../a": HASH}}, "lists '../a', which is no file below it"),
        ({"files": {"/etc/passwd": HASH}}, "lists '/etc/passwd', which is no file below it"),
        ({"files": {"a\x1b[2J": HASH}}, r"lists 'a\\x1b\[2J', which is no file below it"),
        ({"configuration": []}, r"configuration is \[\]; expected dict\[str"),
    ],
    ids=str,
)
def test_a_card_of_another_form_is_one_sentence(copied, change, message):
    card = json.loads((copied / CARD).read_text()) | change
    card = {name: value for name, value in card.items() if value is not None}
    (copied / CARD).write_text(json.dumps({**card, "seal": seal(card)}))
    with pytest.raises(CheckpointError, match=rf"made up \(checkpoint.json {message}"):
        grumo_jax.load_checkpoint(copied)
    with pytest.raises(CheckpointError, match="network: damaged or made up"):
        checkpoint.checkpoint_hash(copied)


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"encoder_widths": [0] * 5}, "must be from 1 to"),
        ({"encoder_widths": [-1] * 5}, "must be from 1 to"),
        ({"decoder_widths": [10**20] * 5}, "must be from 1 to"),
        ({"encoder_widths": ["a"] * 5}, r"expected tuple\[int, ...\]"),
        ({"encoder_widths": [True] * 5}, r"expected tuple\[int, ...\]"),
        ({"encoder_widths": [8.0] * 5}, r"expected tuple\[int, ...\]"),
        ({"encoder_widths": None}, r"encoder_widths is None; expected tuple\[int, ...\]"),
        ({"encoder_widths": [8] * 4}, "must have five entries each"),
        ({"encoder_widths": [[[[8]]]]}, r"expected tuple\[int, ...\]"),
        ({"num_layers": 19}, "a ResNet has one of 18, 34"),
        ({"num_layers": True}, "num_layers is True; expected int"),
        ({"output": "inverse"}, r"expected Literal\['disparity', 'depth'\]"),
        ({"predict_uncertainty": 1}, "predict_uncertainty is 1; expected bool"),
        ({"dropout_rate": 1}, "expected 0 to less than 1"),
        ({"max_depth": "x"}, "max_depth is 'x'; expected float"),
        ({"max_depth": 10**400}, "max_depth is 1000.*; expected float"),
        ({"max_depth": 0}, "positive numbers, the second one larger"),
        ({"min_depth": -1}, "positive numbers, the second one larger"),
        ({"scales": [0, 7]}, "must be some of 0, 1, 2, 3"),
        ({"scales": [0, 0]}, "must be some of 0, 1, 2, 3"),
        ({"input_size": "ab"}, r"expected tuple\[int, int\] | None"),
        ({"input_size": [64]}, r"expected tuple\[int, int\] | None"),
        ({"input_size": [-64, 64]}, "multiples of 32"),
        ({"input_size": [0, 0]}, "multiples of 32"),
        ({"input_size": [2**40, 64]}, "multiples of 32"),
    ],
    ids=str,
)
def test_a_network_that_there_cannot_be_is_one_sentence(copied, configuration, message):
    forge(copied, configuration)
    with pytest.raises(CheckpointError, match=f"network: damaged or made up .*{message}"):
        grumo_jax.load_checkpoint(copied)


@pytest.mark.parametrize("name", ["parent", "name", "dtype", "apply", "__class__"])
def test_only_the_networks_own_options_are_set(copied, name):
    forge(copied, {name: 1})
    with pytest.raises(CheckpointError, match="has options this one does not know"):
        grumo_jax.load_checkpoint(copied)


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        b"\xff\xfe",
        b"null",
        b'{"seal": NaN}',
        b'{"model": "a", "model": "b"}',
        b"1" * 5000,
        b" " * 2**21,
    ],
    ids=["lists", "objects", "encoding", "null", "nan", "double", "digits", "large"],
)
def test_a_card_that_is_no_json(copied, text):
    (copied / CARD).write_bytes(text)
    with pytest.raises(CheckpointError, match=r"network: damaged \(checkpoint.json"):
        grumo_jax.load_checkpoint(copied)


def test_sizes_are_compared_before_memory_is_taken(copied):
    forge(copied, {"encoder_widths": [60_000] * 5})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=r"its network needs .*e\+0. MB, and its files have"):
        grumo_jax.load_checkpoint(copied)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18, "KiB"


def test_what_is_not_listed_is_not_read(copied, monkeypatch):
    for name in ("large", "d/large"):
        with (copied / name).open("wb") as stream:
            stream.truncate(2**40)
    monkeypatch.setattr(checkpoint, "hash_file", counted := Counted(checkpoint.hash_file))
    grumo_jax.load_checkpoint(copied)
    assert not [file for file in counted.files if file.name == "large"]
    large = json.loads((copied / CARD).read_text())["files"] | {"large": HASH}
    forge(copied, {}, files=large)
    with pytest.raises(CheckpointError, match=r"and its files have 1.1e\+06 MB"):
        grumo_jax.load_checkpoint(copied)


class Counted:
    """A function of files, and which it was called with."""

    def __init__(self, function):
        self.function, self.files = function, []

    def __call__(self, file):
        self.files.append(file)
        return self.function(file)


def test_a_pipe_is_not_waited_for(copied):
    manifest = copied / "manifest.ocdbt"
    manifest.unlink()
    os.mkfifo(manifest)
    with pytest.raises(CheckpointError, match=r"manifest.ocdbt is neither file nor folder"):
        grumo_jax.load_checkpoint(copied)
    forge(copied, {}, files={})
    with pytest.raises(CheckpointError, match=r"manifest.ocdbt is neither file nor folder"):
        grumo_jax.load_checkpoint(copied)
    (copied / CARD).unlink()
    os.mkfifo(copied / CARD)
    with pytest.raises(CheckpointError, match=r"has no checkpoint\.json"):
        grumo_jax.load_checkpoint(copied)


@pytest.mark.parametrize(
    ("entry", "number", "message"),
    [
        (("params", "decoder", "head_0", "bias"), np.nan, "1 of 1 numbers is not finite"),
        (("batch_stats", "encoder", "bn1", "var"), np.inf, "1 of 8 numbers is not finite"),
        (("batch_stats", "encoder", "bn1", "var"), -1, "1 of 8 numbers is negative"),
    ],
    ids=str,
)
def test_a_diverged_network_is_kept_with_a_warning(tiny, tmp_path, entry, number, message):
    model, variables = tiny[0], jax.tree.map(lambda x: x, tiny[1])
    *parents, last = entry
    leaves = variables
    for name in parents:
        leaves = leaves[name]
    leaves[last] = jnp.asarray(leaves[last]).at[0].set(number)
    with pytest.warns(GrumoWarning, match=f"network: {'/'.join(entry)}: {message}"):
        grumo_jax.save_checkpoint(tmp_path / "network", model, variables)
    with pytest.warns(GrumoWarning, match=f"network: {'/'.join(entry)}: {message}"):
        _, loaded = grumo_jax.load_checkpoint(tmp_path / "network")
    jax.tree.map(np.testing.assert_array_equal, loaded, variables)
