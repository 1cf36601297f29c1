"""PyTorch weights that are odd, damaged, or made to do harm: one sentence that names the entry."""

import io
import pickle
import resource
import struct
import subprocess
import sys
import textwrap
import zipfile

import jax
import numpy as np
import pytest
from test_porting import to_torch, torch_layout

import grumo_jax
from grumo_jax.errors import WeightsError
from grumo_jax.networks.porting import load_torch_state, port_torch_files
from grumo_jax.networks.porting.states import plain_state

CONV, VARIANCE = "encoder.layer1.0.conv1.weight", "encoder.bn1.running_var"


@pytest.fixture(scope="module")
def states(tiny):
    return torch_layout(*tiny)


def with_number(array, number):
    array = np.array(array)
    array.flat[3] = number
    return array


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (CONV, lambda a: with_number(a, np.nan), "1 of 576 numbers is not finite"),
        (CONV, lambda a: a * np.inf, "576 of 576 numbers are not finite"),
        (
            CONV,
            lambda a: with_number(a.astype(np.float64), 1e300),
            "its float64 numbers become infinite",
        ),
        (VARIANCE, lambda a: with_number(a, -1), "1 of 8 numbers is negative, and it is a var"),
        (VARIANCE, lambda a: a.astype(np.float16) * np.nan, "8 of 8 numbers are not finite"),
        (CONV, lambda a: a.astype(int), "holds int64; expected an array of floating-point"),
        (CONV, lambda a: a > 0, "holds bool; expected an array of floating-point"),
        (CONV, lambda a: a * 1j, "holds complex64; expected an array of floating-point"),
        (CONV, lambda a: a[:0], r"has shape \(0, 8, 3, 3\) and is empty"),
        (CONV, lambda a: np.float32(1), r"has shape \(\); expected 4 dimensions"),
        (CONV, lambda a: np.broadcast_to(np.float32(0), a.shape), "repeats its numbers"),
        (CONV, lambda a: None, "is None; expected an array of floating-point"),
        (CONV, lambda a: "a" * 99, "is 'a+; expected an array of floating-point"),
        (CONV, lambda a: [[1.0], [1.0, 2.0]], "is a list; expected an array"),
    ],
)
def test_an_entry_that_cannot_be_weights_is_named(states, name, change, message):
    encoder, decoder = states
    with pytest.raises(WeightsError, match=f"^encoder state: {name}:? {message}"):
        grumo_jax.port_monodepth2({**encoder, name: change(encoder[name])}, decoder)


@pytest.mark.parametrize(
    "height", [None, np.nan, 0, -64, "64", True, 10**9, 65, 64.0, [64], np.array([64, 64])], ids=str
)
@pytest.mark.parametrize("name", ["height", "width"])
def test_a_size_that_is_none(states, name, height):
    encoder, decoder = states
    with pytest.raises(WeightsError, match=f"encoder state: {name} is .*; expected a multiple of"):
        grumo_jax.port_monodepth2({**encoder, "height": 64, "width": 96, name: height}, decoder)


def test_sizes_of_all_kinds_of_integers(states):
    encoder, decoder = states
    sizes = {"height": np.int64(64), "width": np.array(96)}
    assert grumo_jax.port_monodepth2({**encoder, **sizes}, decoder)[0].input_size == (64, 96)
    with pytest.raises(WeightsError, match="width is missing, and height, width belong together"):
        grumo_jax.port_monodepth2({**encoder, "height": 64}, decoder)


@pytest.mark.parametrize(
    ("prefix", "levels"),
    [
        ("module.", ()),
        ("_orig_mod.", ("state_dict",)),
        ("module._orig_mod.", ("model",)),
        ("_orig_mod.module.", ("model", "state_dict")),
    ],
)
def test_prefixes_and_levels_are_taken_off(states, tiny, prefix, levels):
    wrapped = []
    for state in states:
        inner = {prefix + name: value for name, value in state.items()}
        for level in reversed(levels):
            inner = {level: inner, "epoch": 3, "height": 64, "width": 96}
        wrapped.append(inner)
    model, variables = grumo_jax.port_monodepth2(*wrapped)
    assert model.input_size == ((64, 96) if levels else None)
    jax.tree.map(np.testing.assert_array_equal, variables, tiny[1])


def test_what_is_no_state_dict():
    cyclic = {}
    cyclic["model"] = cyclic
    cases = {
        "holds a list; expected a state dict": [1],
        "holds state_dict and model; save the one": {"state_dict": {}, "model": {}},
        "holds state dicts in state dicts": cyclic,
        "a.b is there twice, with and without": {"a.module.b": 1, "module.a.b": 1},
        "an entry is called 7; expected names": {7: 1},
    }
    for message, state in cases.items():
        with pytest.raises(WeightsError, match=f"^x: {message}"):
            plain_state(state, "x")


# What follows reads files that PyTorch wrote and runs where PyTorch is installed.


@pytest.fixture
def save(tmp_path, states):
    """Function encoder's changes, legacy? → folder of encoder.pth and depth.pth."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: convert)")

    def write(legacy=False, **changes):
        encoder = {**to_torch(states[0]), **{k.replace("__", "."): v for k, v in changes.items()}}
        for name, state in (("encoder.pth", encoder), ("depth.pth", to_torch(states[1]))):
            torch.save(state, tmp_path / name, _use_new_zipfile_serialization=not legacy)
        return tmp_path

    return write


@pytest.mark.parametrize("legacy", [False, True])
def test_odd_tensors_are_errors_only_where_they_are_needed(save, legacy):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: convert)")
    bias = torch.zeros(8)
    kinds = {
        "a tensor of float32 without content": torch.zeros(8, device="meta"),
        "a sparse or nested tensor of float32": bias.to_sparse(),
        "a view of shape .* of fewer numbers": torch.zeros(1).expand(8),
        "holds complex64; expected": bias.to(torch.complex64),
        "a tensor of complex64; expected": bias.to(torch.complex64).conj(),
        "holds int32; expected": bias.int(),
    }
    for message, tensor in kinds.items():
        folder = save(legacy, encoder__fc__bias=tensor)
        port_torch_files(folder)
        folder = save(legacy, encoder__bn1__bias=tensor)
        with pytest.raises(WeightsError, match=f"encoder.bn1.bias (is )?{message}"):
            port_torch_files(folder)


def test_half_precision_is_read(save, tiny):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: convert)")
    for dtype in (torch.bfloat16, torch.float16, torch.float64):
        folder = save(encoder__bn1__bias=torch.full([8], 0.5, dtype=dtype))
        bias = port_torch_files(folder)[1]["params"]["encoder"]["bn1"]["bias"]
        np.testing.assert_array_equal(bias, np.full(8, 0.5, np.float32), strict=True)


def test_every_flipped_byte_of_the_weights_is_noticed(save):
    file = save() / "encoder.pth"
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        entry = max(archive.infolist(), key=lambda info: info.file_size)
    start = entry.header_offset + 30 + len(entry.filename)
    (extra,) = struct.unpack_from("<H", content, entry.header_offset + 28)
    for place in (start + extra, start + extra + entry.file_size // 2, start + extra + 4001):
        content[place] ^= 1
        file.write_bytes(content)
        with pytest.raises(WeightsError, match=r"encoder.pth: damaged \(Bad CRC-32"):
            load_torch_state(file)
        content[place] ^= 1
    file.write_bytes(content)
    load_torch_state(file)


def deflate(file, **added):
    """Compress a file of PyTorch's, and put in more entries: {name: bytes of zero}."""
    with zipfile.ZipFile(file) as archive:
        entries = {info.filename: archive.read(info) for info in archive.infolist()}
    root = next(iter(entries)).partition("/")[0]
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
        for name, size in added.items():
            with archive.open(f"{root}/data/{name}", "w", force_zip64=True) as stream:
                for _ in range(size // 2**20):
                    stream.write(bytes(2**20))


def test_compressed_entries(save, tiny):
    folder = save()
    deflate(folder / "encoder.pth")
    jax.tree.map(np.testing.assert_array_equal, port_torch_files(folder)[1], tiny[1])
    deflate(folder / "encoder.pth", bomb=200 * 2**20)
    with pytest.raises(WeightsError, match=r"refused, since it has .* would take 210 MB of memory"):
        port_torch_files(folder)


def test_views_that_repeat_take_no_memory(save):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: convert)")
    folder = save(encoder__fc__weight=torch.zeros(1, dtype=torch.float64).expand(10**9, 100))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    port_torch_files(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18, "KiB"
    whole = torch.zeros(10**6)
    save(**{f"v{n}": whole[n:] for n in range(40)})
    with pytest.raises(WeightsError, match=r"would take 16\d MB of memory, as weights do not"):
        load_torch_state(folder / "encoder.pth")


def test_what_a_pickle_may_claim(tmp_path):
    pytest.importorskip("torch", reason="PyTorch is not installed (extra: convert)")

    class Claims:
        def __reduce__(self):
            return bytearray, (2**62,)

    stream = io.BytesIO()
    pickle.dump({"a": Claims()}, stream, protocol=2)
    with zipfile.ZipFile(tmp_path / "encoder.pth", "w") as archive:
        archive.writestr("x/data.pkl", stream.getvalue())
        archive.writestr("x/version", "3\n")
    with pytest.raises(WeightsError, match=r"encoder.pth: (damaged|refused)"):
        load_torch_state(tmp_path / "encoder.pth")


@pytest.mark.slow
def test_what_was_read_does_not_change_with_the_file(save):
    """Arrays share the file's memory, and variables do not."""
    folder = save()
    script = """
        import sys, jax, numpy as np
        from pathlib import Path
        from grumo_jax.networks.porting import port_torch_files
        folder = Path(sys.argv[1])
        variables = port_torch_files(folder)[1]
        before = jax.tree.map(np.array, variables)
        for name in ("encoder.pth", "depth.pth"):
            with (folder / name).open("r+b") as stream:
                stream.write(b"\\xff" * (folder / name).stat().st_size)
        jax.tree.map(np.testing.assert_array_equal, variables, before)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script), folder], check=True)
