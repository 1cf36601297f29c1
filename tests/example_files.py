"""The files that examples in docstrings name, made when the first example asks for them."""

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from golden.weights import draw_states
from layouts import draw_depth, draw_image, write_drive, write_nyu
from PIL import Image

import grumo_jax
from grumo_jax.ablation import Grid, ablate
from grumo_jax.data import ImageFolder
from grumo_jax.evaluation import evaluate, named_protocol

SIZE = (32, 64)


class ExampleFiles:
    """Each file is made once, and copied for every example, which may change it."""

    def __init__(self, folder):
        self._folder = folder
        self._makers = {
            "photos": _make_photos,
            "depth": _make_depth,
            "kitti_raw": lambda folder: write_drive(folder, range(2), scans=range(2)),
            "nyu": lambda folder: write_nyu(folder, ["val/official/00001"]),
            "mono_640x192": _make_weights,
            "results.jsonl": self._make_results,
            "ablation.jsonl": self._make_ablation,
            "row.jaxexport": _make_exported,
        }

    def names_in(self, source):
        """The files that a source names, as strings or as the first part of a path."""
        return [name for name in self._makers if f'"{name}"' in source or f'"{name}/' in source]

    def put(self, name, folder):
        """Copy a file or folder into a folder."""
        file = self._made(name)
        copy = shutil.copytree if file.is_dir() else shutil.copyfile
        copy(file, folder / name)

    def _made(self, name):
        file = self._folder / name
        if not file.exists():
            self._makers[name](file)
        return file

    def _source(self):
        return ImageFolder(self._made("photos"), self._made("depth"))

    def _make_results(self, file):
        network = nn.Sequential([lambda images: 1 + images.mean(axis=-1)])
        estimators = {
            "post": grumo_jax.PostProcessing(network),
            "row": grumo_jax.RowBaseline(network),
        }
        protocol = named_protocol("metric")
        evaluate(estimators, {}, self._source(), file, protocol=protocol, size=SIZE)

    def _make_ablation(self, file):
        network = nn.Sequential([nn.Conv(4, (3, 3)), nn.Conv(1, (3, 3)), nn.softplus])
        images = jnp.zeros((1, *SIZE, 3))
        variables = network.init(jax.random.key(0), images)
        references = {"flip": grumo_jax.Flip()}
        options = {"layers": ["layers_0"], "losses": ["squared"], "references": references}
        grid = Grid.of(network, variables, images, **options)
        source, protocol = self._source(), named_protocol("metric")
        ablate(grid, network, variables, source, file, protocol=protocol, size=SIZE)


def _make_photos(folder):
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in "abc":
        Image.fromarray(draw_image(rng, (40, 72))).save(folder / f"{name}.png")


def _make_depth(folder):
    folder.mkdir()
    rng = np.random.default_rng(1)
    for name in "abc":
        np.save(folder / f"{name}.npy", draw_depth(rng, (40, 72)))


def _make_weights(folder):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra: convert)")
    folder.mkdir()
    for name, state in zip(("encoder", "depth"), draw_states(0), strict=True):
        sizes = {"height": 192, "width": 640} if name == "encoder" else {}
        tensors = {key: torch.as_tensor(value) for key, value in state.items()}
        torch.save(tensors | sizes, folder / f"{name}.pth")


def _make_exported(file):
    network = nn.Sequential([lambda images: 1 + images.mean(axis=-1)])
    estimator = grumo_jax.RowBaseline(network)
    grumo_jax.export_estimator(file, estimator, {}, (1, *SIZE), platforms="cpu")
