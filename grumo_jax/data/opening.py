"""`open_source` opens any data set by its name."""

from pathlib import Path
from typing import Any

from grumo_jax.data.folder import ImageFolder
from grumo_jax.data.prepared import (
    PreparedSource,
    find_prepared,
    open_prepared,
    open_raw,
    say_prepared_level,
)
from grumo_jax.data.prepared.parts import locate
from grumo_jax.data.prepared.read import FOLDER
from grumo_jax.data.sample import Source
from grumo_jax.errors import DataError

DATASETS = {"kitti": "eigen", "nyu": "val", "folder": "all", "synthetic": "street/test"}
"""{data set: its default split}"""


def open_source(
    dataset: str,
    data_dir: str | Path,
    split: str | None = None,
    *,
    split_files: str | Path | None = None,
    raw: bool = False,
    **folder_options: Any,
) -> Source:
    """Open a data set: prepared data if there are any, else the original files.

    Prepared data are refused if the original files beside them have changed since.

    Args:
        dataset: "kitti", "nyu", "folder" or "synthetic".
        data_dir: folder of the original or the prepared data; for "folder", of the photos. For
            "synthetic" any folder will do: what is not prepared is rendered.
        split: such as "eigen" (kitti's default) or "val" (nyu's); "folder" has none.
        split_files: folder with train_files.txt and val_files.txt, for KITTI's `eigen_zhou`.
        raw: read the original files even if there are prepared data.
        folder_options: options of `ImageFolder`: depth, depth_scale, pair, intrinsics.

    Raises:
        DataError: if data set or split are unknown, no file of it is found, or the original
            files have changed since they were prepared.

    Example:
        >>> from pathlib import Path
        >>> import grumo_jax
        >>> open_source("folder", Path(grumo_jax.__file__).parent / "photos").name
        'folder/photos'
    """
    if dataset not in DATASETS:
        raise DataError(f"no data set {dataset!r}; there are: {', '.join(DATASETS)}")
    if dataset == "folder":
        if split not in (None, "all"):
            raise DataError(f"a folder of photos has no split {split!r}; leave the split out")
        return ImageFolder(data_dir, **folder_options)
    if folder_options:
        raise DataError(f"{dataset} takes no {', '.join(folder_options)}; only folder does")
    split = split or DATASETS[dataset]
    if not raw and find_prepared(dataset, data_dir, split) is not None:
        prepared = open_prepared(dataset, data_dir, split)
        _check_current(prepared, dataset, data_dir, split, split_files)
        return prepared
    try:
        return open_raw(dataset, data_dir, split, split_files=split_files)
    except DataError:
        if not raw and (meant := say_prepared_level(dataset, data_dir)):
            raise DataError(f"{data_dir}: {meant}") from None
        raise


def _check_current(
    prepared: PreparedSource,
    dataset: str,
    data_dir: str | Path,
    split: str,
    split_files: str | Path | None,
) -> None:
    """Refuse prepared data whose original files have changed since."""
    try:
        originals = open_raw(dataset, data_dir, split, split_files=split_files)
    except DataError:
        return  # Prepared data may be copied elsewhere, without the originals.
    if originals.fingerprint == prepared.contents:
        return
    config, _ = locate(dataset, split)
    command = f"grumo prepare {dataset} --data-dir {data_dir} --split {config}"
    if split_files is not None:
        command += f" --split-files {split_files}"
    if Path(data_dir) / FOLDER not in prepared.folder.parents:
        command += f" --out {data_dir}"
    reason = f"prepared from other files than those in {data_dir} now; prepare them again"
    if dataset == "synthetic":
        reason = "rendered by another version of grumo_jax; render it again"
    raise DataError(f"{prepared.folder}: {reason}: `{command}`")
