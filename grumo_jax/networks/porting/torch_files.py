"""Read PyTorch's files without executing code in them."""

import pickle
import warnings
from pathlib import Path
from typing import Any, Literal

import jax.numpy as jnp

from grumo_jax.errors import WeightsError
from grumo_jax.networks.monodepth2 import Monodepth2
from grumo_jax.networks.porting.archives import check_archive, check_size, is_archive
from grumo_jax.networks.porting.monodepth2 import port_monodepth2
from grumo_jax.networks.porting.states import Unreadable, plain_state


def load_torch_state(path: str | Path) -> dict[str, Any]:
    """Read a state dict from a .pth file, in the zip or the legacy format, as numpy arrays.

    Only tensors and plain values are read (PyTorch's `weights_only=True`): a pickle with code is
    refused and not run. Checksums of the zip format are verified. Nesting such as `state_dict` and
    prefixes such as `module.` are removed.

    Returns:
        {name: array}. Arrays share the file's memory: copy those that outlive it. A tensor that
        cannot be a numpy array becomes an `Unreadable`, an error only if it is used.

    Raises:
        WeightsError: if PyTorch is not installed, or the file is missing, damaged, contains code,
            needs far more memory than its size, or holds no state dict.

    Example:
        >>> state = load_torch_state("mono_640x192/encoder.pth")
        >>> state["encoder.conv1.weight"].shape
        (64, 3, 7, 7)
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: no such file")
    try:
        import torch
    except ImportError as error:
        raise WeightsError(
            f"{path}: reading PyTorch's files needs PyTorch: pip install 'grumo-jax[convert]'"
        ) from error
    try:
        mapped = is_archive(path) and check_archive(path)
        with warnings.catch_warnings(action="ignore"):
            loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except WeightsError:
        raise
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: refused, since it is damaged or carries more than weights (nothing of it "
            "was run); save it again as a plain state dict"
        ) from error
    except Exception as error:  # of many classes, for damaged or crafted files
        raise WeightsError(f"{path}: damaged or no PyTorch file; copy it again") from error
    state = plain_state(loaded, str(path))
    state = {
        name: _as_array(value) if isinstance(value, torch.Tensor) else value
        for name, value in state.items()
    }
    # Arrays may share memory, so their sizes may add up to more than the file.
    check_size(path, sum(getattr(value, "nbytes", 0) for value in state.values()))
    return state


def port_torch_files(
    encoder: str | Path,
    decoder: str | Path | None = None,
    *,
    output: Literal["disparity", "depth"] = "disparity",
    dropout_rate: float = 0.0,
) -> tuple[Monodepth2, Any]:
    """Port `encoder.pth` and `depth.pth`, given as two files or as their directory.

    Args:
        encoder: the encoder's file, or a directory with `encoder.pth` and `depth.pth`.
        decoder: the decoder's file.
        output, dropout_rate: see `port_monodepth2`.

    Raises:
        WeightsError: see `load_torch_state` and `port_monodepth2`.

    Example:
        >>> model, variables = port_torch_files("mono_640x192")
        >>> model.num_layers, model.output
        (18, 'disparity')
    """
    if decoder is not None and Path(encoder).is_dir():
        raise WeightsError(f"{encoder}: a directory; give it alone, or two files")
    if decoder is None:
        folder = Path(encoder)
        if not folder.is_dir():
            raise WeightsError(f"{folder}: not a directory; give one, or both files")
        encoder, decoder = folder / "encoder.pth", folder / "depth.pth"
    return port_monodepth2(
        load_torch_state(encoder),
        load_torch_state(decoder),
        output=output,
        dropout_rate=dropout_rate,
    )


def _as_array(tensor: Any) -> Any:
    """A tensor as a numpy array that shares its memory, or `Unreadable`."""
    import torch

    tensor, kind = tensor.detach(), str(tensor.dtype).removeprefix("torch.")
    try:
        if tensor.layout != torch.strided or tensor.is_nested:
            return Unreadable(f"a sparse or nested tensor of {kind}")
        if tensor.device.type != "cpu":
            return Unreadable(f"a tensor of {kind} without content (on the device {tensor.device})")
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            return Unreadable(f"a view of shape {tuple(tensor.shape)} of fewer numbers")
        if tensor.dtype == torch.bfloat16:  # not supported by `Tensor.numpy`
            return tensor.view(torch.int16).numpy().view(jnp.bfloat16)
        return tensor.numpy()
    except (RuntimeError, TypeError):
        return Unreadable(f"a tensor of {kind}")
