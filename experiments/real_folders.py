"""Real photos with dense or improved ground truth: every method on a folder of them.

Command: python experiments/real_folders.py --weights PYDNET.npz --photos RGB --depth DEPTH
Data:    a folder of photos and one of depth maps (.npy in metres, or 16-bit PNG: --depth-scale 256
         for KITTI's improved ground truth, 1000 for millimetres); a mobile PyDNet trained on KITTI.
Time:    one CPU core, 3 s an image.
Result:  docs/results.md; the same table as experiments/real_kitti.py on other photos, for looking
         whether what was found on one drive holds elsewhere. Depth is scaled by the median.
"""

import argparse
from pathlib import Path

from pydnet import load_pydnet
from real_kitti import evaluate_methods

from grumo_jax.data import ImageFolder


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True, help="PyDNet's weights, .npz")
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--depth", type=Path, required=True)
    parser.add_argument("--depth-scale", type=float, default=256, help="PNG units to the metre")
    parser.add_argument("--pair", choices=("name", "order"), default="name")
    parser.add_argument("--out", type=Path, default=Path("results/real_folders"))
    options = parser.parse_args()
    source = ImageFolder(
        options.photos, options.depth, depth_scale=options.depth_scale, pair=options.pair
    )
    evaluate_methods(load_pydnet(options.weights), source, options.out)


if __name__ == "__main__":
    main()
