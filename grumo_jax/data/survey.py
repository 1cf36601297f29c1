"""What of a data set was found, what is missing and where to download it, in words."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from grumo_jax.data import nyu
from grumo_jax.data.kitti.layout import KittiLayout
from grumo_jax.data.kitti.raw import LACKING, collect_files, parse_id
from grumo_jax.data.prepared.parts import PARTS
from grumo_jax.errors import DataError

_RAW_PAGE = "KITTI's page 'raw data', by drive: 'synced+rectified data' and 'calibration'"
SOURCES = {
    "improved": "KITTI's page 'depth prediction': 'annotated depth maps data set'",
    "calibration": f"{_RAW_PAGE} (the latter)",
}
"""{file that a frame may lack: its download}; all others come from the raw data's page."""
NYU_SOURCE = "FastDepth's nyudepthv2.tar.gz"
_SHOWN = 4


def survey(dataset: str, data_dir: str | Path) -> list[str]:
    """Describe the files that were found, one line for each day or split.

    Args:
        dataset: "kitti" or "nyu".
        data_dir: folder of the original files.

    Raises:
        DataError: if the folder is missing, or holds nothing of the data set.
    """
    root = Path(data_dir)
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; expected the original files of {dataset} in it")
    lines = list(_survey_kitti(root) if dataset == "kitti" else _survey_nyu(root))
    if not lines:
        meant = KittiLayout(root).misplaced() if dataset == "kitti" else nyu.misplaced(root)
        if meant:
            raise DataError(f"{root}: {meant}")
        what, source = ("KITTI's raw data", _RAW_PAGE) if dataset == "kitti" else _NYU
        raise DataError(f"{root}: nothing of {what} is there; download {source}, and unpack it")
    return lines


_NYU = ("FastDepth's packing of NYU Depth V2", NYU_SOURCE)


def _survey_kitti(root: Path) -> Iterator[str]:
    layout = KittiLayout(root)
    drives = layout.drives()
    for day in sorted({drive.split("/")[0] for drive in drives}):
        of_day = [drive for drive in drives if drive.startswith(day)]
        counts = {
            "left": sum(len(layout.images(drive, 2)) for drive in of_day),
            "right": sum(len(layout.images(drive, 3)) for drive in of_day),
            "scans": sum(len(layout.scans(drive)) for drive in of_day),
            "improved": sum(len(layout.improved(drive, 2)) for drive in of_day),
        }
        complete = layout.calibrated(of_day[0], scanner=counts["scans"] > 0)
        calibrated = "calibrated" if complete else "NO calibration"
        yield (
            f"{day}: {_count(len(of_day), 'drive')}, {calibrated}; "
            f"{counts['left']} left and {counts['right']} right frames, {counts['scans']} scans, "
            f"{counts['improved']} improved ground truth"
        )


def _survey_nyu(root: Path) -> Iterator[str]:
    for split in nyu.SPLITS:
        files = nyu.list_files(root, split)
        if files:
            folders = len({file.parent for file in files})
            yield f"{split}: {_count(len(files), 'file')} in {_count(folders, 'folder')}"


def survey_splits(
    dataset: str, config: str, data_dir: str | Path, split_files: str | Path | None = None
) -> tuple[int, list[str]]:
    """Count the frames of all splits that are prepared together.

    Args:
        dataset: "kitti" or "nyu".
        config: key of `PARTS[dataset]`.
        data_dir: folder of the original files.
        split_files: folder with train_files.txt and val_files.txt, for `eigen_zhou`.

    Returns:
        (number of frames found, a line for each split and for each kind of missing file).

    Raises:
        DataError: if a split file is missing or damaged.
    """
    present, lines = 0, list[str]()
    for split in PARTS[dataset][config].values():
        if dataset == "kitti":
            found, gaps = collect_files(Path(data_dir), split, split_files)
            lines.append(f"{split}: {len(found)} of {_count(len(found) + len(gaps), 'frame')}")
            lines += [f"  {line}" for line in _describe_gaps(gaps)]
            present += len(found)
        else:
            count = len(nyu.list_files(Path(data_dir), split))
            expected = nyu.EXPECTED.get(split, count)
            lines.append(f"{split}: {count} of {_count(expected, 'frame')}")
            if count < expected or not count:
                lines.append(f"  get the rest from {NYU_SOURCE}")
            present += count
    return present, lines


def _describe_gaps(gaps: dict[str, str]) -> Iterator[str]:
    for what in dict.fromkeys(gaps.values()):
        keys = [key for key, lacking in gaps.items() if lacking == what]
        drives = sorted({parse_id(key).drive.split("/")[1] for key in keys})
        verb = "lacks" if len(keys) == 1 else "lack"
        yield (
            f"{len(keys)} {verb} {LACKING[what]}: {_some(drives)}; get it from "
            f"{SOURCES.get(what, _RAW_PAGE)}"
        )


def _some(names: Iterable[str]) -> str:
    """Name the first few and count the rest.

    >>> _some("abcdef")
    'a, b, c, d and 2 more'
    """
    names = list(names)
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
