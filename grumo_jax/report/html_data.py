"""What a page's script works on: the scores of every image, and pictures of some."""

import base64
import io
import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image, features

from grumo_jax.errors import ImageError
from grumo_jax.images import read_image
from grumo_jax.report.pages import PICTURES
from grumo_jax.report.summary import PER_IMAGE, ImageScores, Summary
from grumo_jax.report.tables import order

MOST_PICTURES = 24
PICTURE_WIDTH = 1400
_NAMES = {"detection.auroc": "AUROC ↑", "spearman": "Spearman ↑", "errors.a1": "a1 ↑"}


def model_data(label: str, summary: Summary) -> dict[str, Any]:
    """What the page's script needs, as compact as can be."""
    estimators = list(order(summary.estimators))
    return {
        "label": label,
        "estimators": estimators,
        "measures": [
            {"key": path, "name": _measure_name(path), "better": _better(path)}
            for path in PER_IMAGE
        ],
        "images": [[image.index, image.id, image.pixels] for image in summary.images],
        "scores": {
            name: [[_short(v) for v in image.scores.get(name, ())] for image in summary.images]
            for name in estimators
        },
        "pictures": _pictures(summary, estimators),
    }


def _measure_name(path: str) -> str:
    kind, _, metric = path.rpartition(".")
    areas = {"ause": "AUSE", "aurg": "AURG", "normalized_ause": "normalised AUSE", "errors": ""}
    arrow = "↑" if _better(path) == "higher" else "↓"
    return _NAMES.get(path) or f"{areas[kind]} {metric} {arrow}".strip()


def _better(path: str) -> str:
    return "higher" if path.startswith("aurg") or path in _NAMES else "lower"


def _short(value: float) -> float | None:
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _pictures(summary: Summary, estimators: Sequence[str]) -> dict[int, str]:
    """{index: data URI} of the worst and best cases that there are pictures of."""
    folder = summary.path.parent / PICTURES
    if not folder.is_dir() or not estimators:
        return {}
    found = dict[int, str]()
    for index in _by_interest(summary.images, estimators[0]):
        file = folder / f"{index:06d}.png"
        if index not in found and file.is_file() and len(found) < MOST_PICTURES:
            try:
                found[index] = _embed(file)
            except ImageError:
                continue  # One damaged picture must not cost the report.
    return found


def _by_interest(images: Sequence[ImageScores], estimator: str) -> list[int]:
    """Indices, by turns the worst and the best of each measure, then the next ones."""
    orders = list[list[int]]()
    for path in ("ause.abs_rel", "errors.abs_rel", "aurg.abs_rel"):
        place = PER_IMAGE.index(path)
        known = [
            i for i in images if estimator in i.scores and math.isfinite(i.scores[estimator][place])
        ]
        rising = [i.index for i in sorted(known, key=lambda i: i.scores[estimator][place])]
        orders += [rising, rising[::-1]]
    turns = itertools.zip_longest(*orders)
    return list(dict.fromkeys(index for turn in turns for index in turn if index is not None))


def _embed(file: Path) -> str:
    picture = Image.fromarray(read_image(file))
    picture.thumbnail((PICTURE_WIDTH, 4 * PICTURE_WIDTH))
    kind = "webp" if features.check("webp") else "jpeg"
    stream = io.BytesIO()
    picture.save(stream, format=kind, quality=82)
    return data_uri(stream.getvalue(), kind)


def data_uri(content: bytes, kind: str) -> str:
    """Content of a picture as the address of an img element."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def script_json(value: Any) -> str:
    """JSON that cannot end the script element that it is in."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
