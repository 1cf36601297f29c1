"""One function that opens any data set."""

from pathlib import Path
from typing import Any

from grumo_jax.data.folder import ImageFolder
from grumo_jax.data.prepared import find_prepared, open_prepared, open_raw
from grumo_jax.data.sample import Source
from grumo_jax.errors import DataError

DATASETS = {"kitti": "eigen", "nyu": "val", "folder": "all"}
"""{data set: the split that is opened if none is named}"""


def open_source(
    dataset: str,
    data_dir: str | Path,
    split: str | None = None,
    *,
    split_files: str | Path | None = None,
    raw: bool = False,
    **folder_options: Any,
) -> Source:
    """Open a data set: prepared if `grumo prepare` was run, else its original files.

    Args:
        dataset: "kitti", "nyu" or "folder".
        data_dir: the folder of the original data or of prepared ones; of "folder", the photos.
        split: such as "eigen" (the default of kitti) or "val" (of nyu); "folder" has none.
        split_files: folder with train_files.txt and val_files.txt, for KITTI's `eigen_zhou`.
        raw: read the original files even if there are prepared ones.
        folder_options: of `ImageFolder`: depth, depth_scale, pair, intrinsics.

    Raises:
        DataError: if there is no such data set or split, or nothing of it.

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
        return open_prepared(dataset, data_dir, split)
    return open_raw(dataset, data_dir, split, split_files=split_files)
