"""Agreement with the official PyTorch programs on drawn weights (`golden/README.md`)."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from golden.weights import draw_states
from helpers import GOLDEN, to_batch

import grumo_jax
from grumo_jax import scores

# A drawn network that predicts depth itself predicts negative ones, too.
pytestmark = pytest.mark.filterwarnings("ignore::grumo_jax.GrumoWarning")
FILES = {
    "resnet18_selfsupervised": (0, False, "disparity"),
    "resnet18_selfsupervised_uncert": (10, True, "disparity"),
    "resnet18_supervised_uncert": (20, True, "depth"),
}
estimated_case = pytest.mark.parametrize(
    "case",
    [
        pytest.param(
            name,
            marks=pytest.mark.defaults
            if name == "resnet18_selfsupervised_uncert"
            else pytest.mark.slow,
        )
        for name in FILES
    ],
    indirect=True,
)
"""For tests of `estimates`, whose program takes long to compile."""


@dataclasses.dataclass(frozen=True)
class GivenNoise(grumo_jax.ImageReference):
    """The very noise that the official program drew."""

    file: str

    def augment(self, images, key):
        with np.load(self.file) as golden:
            return images + golden["noise"][None]


@dataclasses.dataclass(frozen=True)
class Case:
    golden: dict
    model: object
    variables: dict
    images: object
    references: dict


@pytest.fixture(scope="module", params=FILES)
def case(request):
    seed, uncertainty, output = FILES[request.param]
    file = GOLDEN / f"{request.param}.npz"
    states = draw_states(seed, uncertainty=uncertainty)
    model, variables = grumo_jax.port_monodepth2(*states, output=output)
    references = {
        "flip": grumo_jax.Flip(),
        "gray": grumo_jax.Gray(),
        "noise": GivenNoise(str(file)),
        "rot": grumo_jax.Rotate(10.0),
    }
    golden = dict(np.load(file))
    return Case(golden, model, variables, to_batch(golden["image"]), references)


def close(actual, desired, tolerance):
    np.testing.assert_allclose(actual, desired, rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def looked_into(case):
    """Outputs, encoder features and the gradients of the flip loss, from one compiled program."""
    target = case.golden["ref_flip"][None]

    def squared_difference(output):
        return ((output.depth - target) ** 2).mean()

    @jax.jit
    def look(variables, images):
        inside = (case.model, variables, images)
        return (
            case.model.apply(variables, images),
            grumo_jax.capture_activations(*inside, "encoder"),
            grumo_jax.activation_gradients(*inside, case.model.decoder_layers, squared_difference),
        )

    return look(case.variables, case.images)


@pytest.mark.defaults
def test_outputs(case, looked_into):
    output, _, _ = looked_into
    name, maps = ("disp", output.disparities) if output.disparities else ("depth", output.depths)
    for scale in range(4):
        close(maps[scale][0], case.golden[f"{name}_{scale}"], 1e-5)
        if output.log_sigmas:
            close(output.log_sigmas[scale][0], case.golden[f"uncert_{scale}"], 1e-5)


@pytest.mark.defaults
def test_encoder_features(case, looked_into):
    _, features, _ = looked_into
    assert len(features) == 5
    for i, feature in enumerate(features):
        close(feature.mean((0, 1, 2)), case.golden[f"feature_mean_{i}"], 1e-5)


@pytest.mark.defaults
def test_raw_gradient(case, looked_into):
    _, _, gradients = looked_into
    desired = case.golden["grad_flip_L6"]
    actual = gradients[case.model.decoder_layers[6]][0]
    close(actual, desired, 1e-4 * np.abs(desired).max())


@pytest.mark.defaults
@pytest.mark.parametrize("reduction", ["max", "sum", "mean", "norm"])
def test_every_flip_map(case, looked_into, reduction):
    _, _, gradients = looked_into
    size = case.images.shape[1:3]
    names = [key for key in case.golden if key.startswith(f"map_flip_{reduction}_L")]
    assert len(names) == {"max": 11, "sum": 1, "mean": 1, "norm": 2}[reduction]

    @jax.jit
    def maps(gradients):
        found = {}
        for name in names:
            layers = [case.model.decoder_layers[int(k)] for k in name.split("_L")[1].split("-")]
            reduced = [scores.reduce_channels(gradients[layer], reduction) for layer in layers]
            resized = [scores.resize(scores.normalize(score), size) for score in reduced]
            found[name] = scores.combine(jnp.stack(resized), "std")[0]
        return found

    for name, found in maps(gradients).items():
        close(found, case.golden[name], 1e-4)


@pytest.fixture(scope="module")
def estimates(case):
    """What every estimator gives, from one compiled program."""
    model, references = case.model, tuple(case.references.values())
    grad = functools.partial(grumo_jax.GradientUncertainty, model)
    layers = [model.decoder_layers[k] for k in (4, 6, 8)]
    estimators = {
        "layers": grad(layers=layers, combine="std"),
        "references": grad(references=references[1:]),
        "variance": grad(references=references, loss="variance"),
        "post": grumo_jax.PostProcessing(model),
        "test_time": grumo_jax.TestTimeVariance(model, references=references),
    }
    if model.predict_uncertainty:
        estimators |= {
            "flip_w2": grad(loss="squared", uncertainty_weight=2.0),
            "none_w2": grad(loss="uncertainty", uncertainty_weight=2.0),
            "learned": grumo_jax.LearnedUncertainty(model),
        }
    return grumo_jax.estimate_together(estimators, case.variables, case.images)


@estimated_case
def test_several_layers_in_one_estimator(case, estimates):
    estimate = estimates["layers"]
    close(estimate.uncertainty[0], case.golden["map_flip_max_L4-6-8"], 1e-4)
    close(estimate.loss[0, 0], case.golden["loss_flip_max_L4-6-8"], 1e-6)


@estimated_case
def test_several_references_in_one_estimator(case, estimates):
    estimate, maps = estimates["references"], []
    (score,) = estimate.layer_scores.values()
    for i, name in enumerate(("gray", "noise", "rot")):
        maps.append(scores.resize(scores.normalize(score[i]), case.images.shape[1:3]))
        close(maps[-1][0], case.golden[f"map_{name}_max_L6"], 1e-4)
        np.testing.assert_allclose(
            estimate.loss[0, i], case.golden[f"loss_{name}_max_L6"], rtol=1e-5
        )
    close(estimate.uncertainty, np.mean(maps, axis=0), 1e-5)


@estimated_case
def test_variance_loss_and_reference_depths(case, estimates):
    estimate = estimates["variance"]
    close(estimate.uncertainty[0], case.golden["map_var_max_L6"], 1e-4)
    for i, name in enumerate(case.references):
        desired = case.golden[f"ref_{name}"]
        # Relative to the map's size: depths of the linear head cross zero.
        close(estimate.reference_depth[0, i], desired, 1e-5 * np.abs(desired).max())


@estimated_case
def test_uncertainty_weight(case, estimates):
    if not case.model.predict_uncertainty:
        pytest.skip("this network has no second head")
    for name in ("flip_w2", "none_w2"):
        estimate = estimates[name]
        close(estimate.uncertainty[0], case.golden[f"map_{name}_max_L6"], 1e-4)
        np.testing.assert_allclose(estimate.loss[0, 0], case.golden[f"loss_{name}_max_L6"], 1e-5)


@estimated_case
def test_post_processing(case, estimates):
    estimate = estimates["post"]
    close(estimate.uncertainty[0], case.golden["post_uncertainty"], 1e-4)
    if case.model.output == "disparity":
        close(1 / estimate.depth[0], case.golden["post_disp"], 1e-4)
    else:
        close(estimate.depth[0], case.golden["post_depth"], 1e-4)


@estimated_case
def test_test_time_variance(case, estimates):
    close(estimates["test_time"].uncertainty[0], case.golden["var_uncertainty"], 1e-4)


@estimated_case
def test_learned_uncertainty(case, estimates):
    if not case.model.predict_uncertainty:
        pytest.skip("this network has no second head")
    close(estimates["learned"].uncertainty[0], case.golden["log_uncertainty"], 1e-4)
