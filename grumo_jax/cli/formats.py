"""What `grumo predict` can write for each photo."""

from enum import StrEnum


class Format(StrEnum):
    """File formats; see `grumo predict --help`."""

    npz = "npz"
    npy = "npy"
    png = "png"
    panel = "panel"
