"""The synthetic world as a data set: clips of streets and rooms, rendered lazily."""

from functools import cached_property, partial

import jax
import numpy as np

from grumo_jax.data.encoding import encode_png, to_uint8
from grumo_jax.data.sample import Crop, EncodedSample, Sample, fingerprint
from grumo_jax.errors import DataError
from grumo_jax.synthetic import Frame, Take, camera_at, make_take, motion, random_scene, shoot
from grumo_jax.synthetic.camera import Camera, SceneKind
from grumo_jax.synthetic.scene import WORLD
from grumo_jax.synthetic.take import BASELINE, INTERVAL

SEED = 4
"""Seed of all scenes: another one gives other clips of the same kinds."""
SIZES: dict[SceneKind, tuple[int, int]] = {"street": (96, 320), "room": (96, 128)}
"""{kind: (height, width) of its frames}: with KITTI's and NYU's aspect ratios."""
NUMBERS = {"train": 4000, "val": 100, "test": 200}
"""{part: number of clips}"""
SPLITS = tuple(f"{kind}/{part}" for kind in SIZES for part in NUMBERS)


class SyntheticWorld:
    """Clips of the synthetic world, each of another scene; splits are disjoint.

    A sample is a frame with exact depth, the frames before and after it with the camera's exact
    motion, the right frame of a stereo pair, and masks of what is ambiguous.

    Args:
        split: "street/train", "street/val", "street/test", or the same of "room".
        size: (height, width) of the frames; those of `SIZES` by default.
        number: of clips; those of `NUMBERS` by default. The first ones do not depend on it.

    Attributes:
        name: such as "synthetic/street/test".
        ids: of the samples, such as "street_test_000012".
        missing: empty.
        fingerprint: SHA-256 over name, ids, size and the world's version.
        crop: None.
        has_depth: True.

    Raises:
        DataError: if the split does not exist, or size or number are not positive.

    Example:
        >>> world = SyntheticWorld("street/test", size=(24, 80), number=3)
        >>> sample = world[0]
        >>> sample.id, sample.image.shape, sorted(sample.regions)
        ('street_test_000000', (24, 80, 3), ['moving', 'reflection', 'shadow'])
    """

    missing: tuple[str, ...] = ()
    crop: Crop | None = None
    has_depth = True

    def __init__(
        self, split: str, *, size: tuple[int, int] | None = None, number: int | None = None
    ) -> None:
        if split not in SPLITS:
            raise DataError(
                f"the synthetic world has no split {split!r}; there are: {', '.join(SPLITS)}"
            )
        self.kind: SceneKind = "street" if split.startswith("street") else "room"
        self.part = split.partition("/")[2]
        self.name = f"synthetic/{split}"
        height, width = SIZES[self.kind] if size is None else size
        if min(height, width) < 1:
            raise DataError(f"frames of {height}×{width} pixels; expected 1 or more")
        self.size = (int(height), int(width))
        number = NUMBERS[self.part] if number is None else number
        if number < 1:
            raise DataError(f"{number} clips of {split}; expected 1 or more")
        self.ids = tuple(f"{self.kind}_{self.part}_{i:06d}" for i in range(number))

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over name, ids, size and the world's version."""
        return fingerprint(self.name, self.ids, [f"world {WORLD}", f"size {self.size}"])

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        """Render one clip."""
        return self.encoded(index).decode()

    def take(self, index: int) -> Take:
        """Scene and camera of a clip; its frame is at time 0."""
        place = tuple(NUMBERS).index(self.part) + len(NUMBERS) * tuple(SIZES).index(self.kind)
        key = jax.random.fold_in(jax.random.key(SEED), place)
        return _take(jax.random.fold_in(key, range(len(self))[index]), kind=self.kind)

    def encoded(self, index: int) -> EncodedSample:
        """A sample with its pictures as PNG."""
        take, step = self.take(index), INTERVAL[self.kind]
        times = {"image": 0.0, "previous": -step, "following": step}
        frames = {name: shoot(take, time, size=self.size) for name, time in times.items()}
        offset = BASELINE[self.kind]
        frames["stereo"] = shoot(take, 0.0, size=self.size, offset=offset)
        target = camera_at(take, 0.0)
        return EncodedSample(
            id=self.ids[index],
            images={name: encode_png(to_uint8(frame.image)) for name, frame in frames.items()},
            depth=np.asarray(frames["image"].depth),
            intrinsics=intrinsics(target, self.size),
            # As prepared data hold it.
            stereo_offset=float(np.float32(offset)),
            motions={
                name: np.asarray(_motion(target, camera_at(take, times[name])))
                for name in ("previous", "following")
            },
            regions=regions(frames["image"]),
        )


def regions(frame: Frame) -> dict[str, np.ndarray]:
    """Masks (H, W) of what is ambiguous in a frame, by name."""
    return {
        "moving": np.asarray(frame.moving),
        "shadow": np.asarray(frame.shadow),
        "reflection": np.asarray(frame.reflection),
    }


def intrinsics(camera: Camera, size: tuple[int, int]) -> np.ndarray:
    """Intrinsics (3, 3) float32 in pixels, the centre of the first pixel at (0, 0)."""
    height, width = size
    (fx, fy), (cx, cy) = np.asarray(camera.focal), np.asarray(camera.centre)
    rows = [[fx * width, 0, cx * width - 0.5], [0, fy * height, cy * height - 0.5], [0, 0, 1]]
    return np.array(rows, np.float32)


@partial(jax.jit, static_argnames="kind")
def _take(key: jax.Array, *, kind: SceneKind) -> Take:
    scene_key, camera_key = jax.random.split(key)
    return make_take(random_scene(scene_key, kind), camera_key, kind=kind)


_motion = jax.jit(motion)
