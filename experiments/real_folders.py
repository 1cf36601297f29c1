"""Real photos that no recipe was chosen on: every method on a folder of them, or on points.

Command: python experiments/real_folders.py --weights PYDNET.npz --photos RGB --depth DEPTH
         python experiments/real_folders.py --weights PYDNET.npz --points SCENES.npz
Data:    a folder of photos and one of depth maps (.npy in metres, or 16-bit PNG: --depth-scale 256
         for KITTI's improved ground truth, 1000 for millimetres); or photos with points of known
         depth in one file, see `PointPhotos`; a mobile PyDNet trained on KITTI.
Time:    one CPU core, 3 s an image.
Result:  docs/results.md; the same table as experiments/real_kitti.py on other photos, for looking
         whether what was found on one drive holds elsewhere. Depth is scaled by the median.
"""

import argparse
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from pydnet import load_pydnet
from real_kitti import evaluate_methods

from grumo_jax.data import ImageFolder, Sample
from grumo_jax.data.encoding import decode_image
from grumo_jax.data.sample import Crop, Source, describe_files, fingerprint


@dataclass(frozen=True)
class PointPhotos:
    """Photos with sparse depth, all in one .npz.

    Photo i is the file `png[png_off[i]:png_off[i + 1]]`. Its points are numbers off[i] to
    off[i + 1] of `rows`, `cols` and `depth` (metres), in pixels of the original of `size[i]`
    (height, width), which may be larger than the photo. `scene` names the photos.

    Attributes:
        path: the file.
    """

    path: Path

    missing: tuple[str, ...] = ()
    crop: Crop | None = None
    has_depth = True

    @property
    def name(self) -> str:
        """The file's."""
        return f"points/{self.path.stem}"

    @cached_property
    def content(self) -> dict[str, np.ndarray]:
        """The file's arrays."""
        with np.load(self.path, allow_pickle=False) as file:
            return {name: file[name] for name in file}

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """Number and scene."""
        return tuple(f"{i}_{scene}" for i, scene in enumerate(self.content["scene"]))

    @property
    def fingerprint(self) -> str:
        """SHA-256 over name, ids and the file's size."""
        return fingerprint(self.name, self.ids, describe_files(self.path.parent, [self.path]))

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """The photo, and its points as a map of its size: the nearest of those in a pixel."""
        file = self.content
        photo = slice(*file["png_off"][index : index + 2])
        points = slice(*file["off"][index : index + 2])
        image = decode_image(file["png"][photo].tobytes(), self.ids[index])
        shrink = np.array(image.shape[:2]) / file["size"][index]
        rows = (shrink[0] * (file["rows"][points] + 0.5)).astype(int)
        columns = (shrink[1] * (file["cols"][points] + 0.5)).astype(int)
        depth = np.full(image.shape[:2], np.inf, np.float32)
        np.minimum.at(depth, (rows, columns), file["depth"][points])
        depth[np.isinf(depth)] = 0
        return Sample(self.ids[index], image, depth)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="PyDNet's weights, .npz")
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--depth", type=Path)
    parser.add_argument("--depth-scale", type=float, default=256, help="PNG units to the metre")
    parser.add_argument("--pair", choices=("name", "order"), default="name")
    parser.add_argument("--points", type=Path, help="photos and points in one .npz, instead")
    parser.add_argument("--out", type=Path, default=Path("results/real_folders"))
    options = parser.parse_args()
    source: Source
    if options.points:
        source = PointPhotos(options.points)
    elif options.photos and options.depth:
        source = ImageFolder(
            options.photos, options.depth, depth_scale=options.depth_scale, pair=options.pair
        )
    else:
        parser.error("give --photos and --depth, or --points")
    evaluate_methods(load_pydnet(options.weights), source, options.out)


if __name__ == "__main__":
    main()
