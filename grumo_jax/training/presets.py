"""Settings by name: those of the papers, and small ones for the synthetic world."""

import dataclasses

from grumo_jax.errors import GrumoError
from grumo_jax.training.objectives import Supervision
from grumo_jax.training.settings import BaseModelName, ScheduleName, Settings

_SUPERVISION: dict[str, Supervision] = {
    "mono": "mono",
    "stereo": "stereo",
    "mono-stereo": "mono_stereo",
    "depth": "depth",
}
_START: dict[Supervision, dict[str, float | str]] = {
    # Streets are about 12 m deep, and cars move a metre from frame to frame. Stereo fixes the unit,
    # 5.4 m. Without it the initial guesses do, here 25 m: the nearest depth is a tenth of the unit,
    # and with the papers' initial 0.2 it would be 6 m.
    "mono": {"motion": "alignment", "initial_depth": 0.5, "initial_motion": 0.04},
    "stereo": {"initial_depth": 2.0},
    "mono_stereo": {"motion": "alignment", "initial_depth": 2.0, "initial_motion": 0.18},
    "depth": {"initial_depth": 10.0},
}


def _synthetic(supervision: Supervision) -> Settings:
    return Settings(
        supervision,
        dataset="synthetic",
        train_split="street/train",
        validation_split="street/val",
        size=(64, 224),
        encoder_widths=(16, 16, 32, 64, 128),
        decoder_widths=(8, 16, 24, 32, 48),
        pose_encoder_widths=(16, 16, 32, 64, 128),
        pose_width=64,
        batch_size=8,
        steps=8000,
        learning_rate=1e-3,
        schedule="cosine",
        warmup_steps=500,
        gradient_clip=1.0,
        statistics_batches=64,
        resolution="pyramid",
        # Streets reach from 3 to 100 m: errors in metres would only count the far end.
        space="relative",
    ).replace(_START[supervision])


PRESETS: dict[str, Settings] = {
    **{f"kitti-{name}": Settings(_SUPERVISION[name]) for name in ("mono", "stereo", "mono-stereo")},
    "nyu": Settings(
        "depth",
        dataset="nyu",
        train_split="train",
        validation_split="held_out",
        size=(224, 288),
        half_and_crop=True,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        zoom=(1.0, 1.5),
        rotation_degrees=5.0,
    ),
    **{f"synthetic-{name}": _synthetic(kind) for name, kind in _SUPERVISION.items()},
}
"""{name: settings}. KITTI: Godard et al., ICCV 2019, section 4. NYU: Hornauer & Belagiannis, ECCV
2022, with the augmentation of Wofk et al. (FastDepth), ICRA 2019."""


def preset(name: str) -> Settings:
    """Look up a preset.

    Raises:
        GrumoError: if no preset has that name.

    Example:
        >>> preset("kitti-stereo").size
        (192, 640)
    """
    if name not in PRESETS:
        raise GrumoError(f"there is no preset {name!r}; there are: {', '.join(PRESETS)}")
    return PRESETS[name]


def with_base_model(settings: Settings, base_model: BaseModelName) -> Settings:
    """A copy for another base model; "snap" also sets its schedule.

    Example:
        >>> with_base_model(PRESETS["kitti-mono"], "snap").schedule
        'cyclic'
    """
    schedule: ScheduleName = settings.schedule
    if (schedule == "cyclic") != (base_model == "snap"):
        schedule = "cyclic" if base_model == "snap" else "step"
    return dataclasses.replace(settings, base_model=base_model, schedule=schedule)
