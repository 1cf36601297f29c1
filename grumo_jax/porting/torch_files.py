"""Reading PyTorch's files, with nothing in them executed."""

import pickle
from pathlib import Path
from typing import Any, Literal

from grumo_jax.errors import WeightsError
from grumo_jax.models.monodepth2 import Monodepth2
from grumo_jax.porting.monodepth2 import port_monodepth2


def load_torch_state(path: str | Path) -> dict[str, Any]:
    """Read a state dict from a .pth file, in the zip or the legacy format, as numpy arrays.

    Only tensors and plain values are read (PyTorch's `weights_only=True`): a pickle that
    carries code is refused, and nothing of it runs.

    Raises:
        WeightsError: if PyTorch is not installed, or the file is missing, damaged, carries
            code, or holds no state dict.

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
        state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"{path}: refused, since it is damaged or carries more than weights (nothing of it "
            "was run); save it again as a plain state dict"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{path}: damaged or no PyTorch file; copy it again") from error
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise WeightsError(f"{path}: holds a {type(state).__name__}; expected a state dict")
    return {
        name: value.detach().float().numpy() if isinstance(value, torch.Tensor) else value
        for name, value in state.items()
    }


def port_torch_files(
    encoder: str | Path,
    decoder: str | Path | None = None,
    *,
    output: Literal["disparity", "depth"] = "disparity",
    dropout_rate: float = 0.0,
) -> tuple[Monodepth2, Any]:
    """Port `encoder.pth` and `depth.pth`, given one by one or as the directory that holds both.

    Args:
        encoder: the encoder's file, or a directory with `encoder.pth` and `depth.pth`.
        decoder: the decoder's file.
        output, dropout_rate: as in `port_monodepth2`.

    Raises:
        WeightsError: as `load_torch_state` and `port_monodepth2`.

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
