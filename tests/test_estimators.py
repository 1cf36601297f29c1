"""What holds for every estimator: transforms, batches, shardings; and each one's own formula."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from helpers import SmallNet, assert_trees_close, draw_variables, read_log_sigma
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from shape_checks import check_fields

import grumo_jax

KEY = jax.random.key(7)

MAKERS = {
    "grad": grumo_jax.GradientUncertainty.paper,
    "averaged": lambda model: grumo_jax.GradientUncertainty.averaged(
        model, layers=("up2", "up1"), references=(grumo_jax.Flip(), grumo_jax.FeatureDropout())
    ),
    "post": grumo_jax.PostProcessing,
    "var": grumo_jax.TestTimeVariance,
    "in-drop": lambda model: grumo_jax.InferenceDropout(model, samples=3),
    "drop": lambda model: grumo_jax.DropoutEnsemble(model, samples=3),
    "learned": grumo_jax.LearnedUncertainty,
    "ensemble": grumo_jax.Ensemble,
}


TELLING = ("averaged", "drop", "ensemble")
"""What the others do is a part of what these do; they are transformed in test-slow."""

each_transformed = pytest.mark.parametrize(
    "estimated",
    [pytest.param(name, marks=[] if name in TELLING else pytest.mark.slow) for name in MAKERS],
    indirect=True,
)


@pytest.fixture(scope="module")
def batch(images):
    """As many images as there are devices; the last is the first again."""
    return jnp.concatenate([images, images[:1]])


@pytest.fixture(scope="module", params=MAKERS)
def estimated(request, small, images, batch):
    """(estimator, its variables, its estimate of the batch)."""
    model, variables = small
    estimator = MAKERS[request.param](model)
    if request.param == "ensemble":
        other = draw_variables(SmallNet(), images, seed=2)
        variables = grumo_jax.stack_variables([variables, other])
    return estimator, variables, estimator(variables, batch, KEY)


def test_estimate_is_well_formed(estimated, batch):
    estimator, _, estimate = estimated
    check_fields(estimate)
    for field in (estimate.depth, estimate.uncertainty, estimate.raw):
        assert field.shape == batch.shape[:3]
        assert field.dtype == jnp.float32
        assert np.all(np.isfinite(field))
    depth, uncertainty = np.asarray(estimate.depth), np.asarray(estimate.uncertainty)
    assert np.all(depth > 0)
    assert np.ptp(uncertainty) > 0
    if not isinstance(estimator, grumo_jax.PostProcessing):
        assert uncertainty.min() >= 0
        assert uncertainty.max() <= 1
    copy = dataclasses.replace(estimator)
    assert copy == estimator
    assert hash(copy) == hash(estimator)


@each_transformed
def test_each_image_by_itself_in_vmap_and_jit_gives_the_same(estimated, batch):
    """Also: each image is independent of its batch."""
    estimator, variables, estimate = estimated

    @jax.jit
    def mapped(variables, images):
        return jax.vmap(lambda image: estimator(variables, image[None], KEY))(images)

    alone = jax.tree.map(np.asarray, mapped(variables, batch))
    raw = np.asarray(estimate.raw)
    np.testing.assert_allclose(alone.depth[:, 0], estimate.depth, rtol=1e-4)
    np.testing.assert_allclose(alone.uncertainty[:, 0], estimate.uncertainty, atol=2e-4)
    np.testing.assert_allclose(alone.raw[:, 0], raw, rtol=1e-3, atol=1e-3 * np.abs(raw).max())


@each_transformed
def test_a_batch_sharded_over_devices_gives_the_same(estimated, batch):
    estimator, variables, estimate = estimated
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    sharded = jax.device_put(batch, NamedSharding(mesh, PartitionSpec("data")))
    replicated = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    result = estimator(replicated, sharded, KEY)
    np.testing.assert_allclose(result.depth, estimate.depth, rtol=1e-4)
    np.testing.assert_allclose(result.uncertainty, estimate.uncertainty, atol=2e-4)


@each_transformed
def test_inside_shard_map_gives_the_same(estimated, batch):
    estimator, variables, estimate = estimated
    mesh = jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("data")
    mapped = jax.shard_map(
        lambda v, x: estimator(v, x, KEY).uncertainty,
        mesh=mesh,
        in_specs=(PartitionSpec(), spec),
        out_specs=spec,
    )
    found = jax.jit(mapped)(variables, batch)
    np.testing.assert_allclose(found, estimate.uncertainty, atol=2e-4)


@each_transformed
def test_gradients_through_estimators_are_finite(estimated, images):
    estimator, variables, _ = estimated

    @jax.jit
    def slope(images):
        return jax.grad(lambda x: estimator(variables, x, KEY).uncertainty.mean())(images)

    gradient = np.asarray(slope(images))
    assert np.all(np.isfinite(gradient))
    assert np.any(gradient != 0)


def test_same_key_same_result_other_key_other_result(small, images):
    model, variables = small
    estimator = grumo_jax.InferenceDropout(model, samples=3)
    first, again, other = (estimator(variables, images, jax.random.key(k)).raw for k in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_dropout_ensemble_averages_what_inference_dropout_only_scores(small, images):
    model, variables = small
    both = {
        "drop": grumo_jax.DropoutEnsemble(model, samples=3),
        "in-drop": grumo_jax.InferenceDropout(model, samples=3),
        "plain": grumo_jax.ConstantBaseline(model),
    }
    drop, in_drop, plain = grumo_jax.estimate_together(both, variables, images, KEY).values()
    np.testing.assert_allclose(drop.raw, in_drop.raw, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(in_drop.depth, plain.depth, rtol=1e-4)
    assert np.abs(np.asarray(drop.depth) - np.asarray(plain.depth)).max() > 1e-3


@pytest.mark.parametrize("log_sigma", [None, read_log_sigma])
def test_ensemble_formula(images, log_sigma):
    net = SmallNet()
    members = [draw_variables(net, images, seed) for seed in range(3)]
    apply = jax.jit(net.apply)
    outputs = [jax.tree.map(np.asarray, apply(member, images)) for member in members]
    disparities = np.stack([1 / output["depth"] for output in outputs])
    raw = disparities.var(axis=0, ddof=1)
    if log_sigma:
        raw = raw + sum(np.exp(2 * output["log_sigma"]) for output in outputs)
    network = grumo_jax.wrap(net, log_sigma=log_sigma, predicts="disparity")
    estimate = grumo_jax.Ensemble(network)(grumo_jax.stack_variables(members), images)
    np.testing.assert_allclose(estimate.raw, raw, rtol=2e-3, atol=1e-5)
    np.testing.assert_allclose(1 / estimate.depth, disparities.mean(axis=0), rtol=1e-4)


def test_learned_heads(small, images):
    model, variables = small
    s = jax.jit(SmallNet().apply)(variables, images)["log_sigma"]
    sigma = grumo_jax.LearnedUncertainty(model)(variables, images)
    error = grumo_jax.LearnedUncertainty(model, head="error")(variables, images)
    np.testing.assert_allclose(sigma.raw, np.exp(s), rtol=1e-4)
    np.testing.assert_allclose(error.raw, s, atol=1e-4)


@pytest.mark.parametrize("space", ["depth", "log_depth", "disparity"])
def test_ground_truth_as_reference(small, images, space):
    model, variables = small
    plain = np.asarray(jax.jit(SmallNet().apply)(variables, images)["depth"])
    oracle = grumo_jax.GradientUncertainty(
        model,
        layers="heads",
        references=grumo_jax.GroundTruth(),
        space=space,
        reduction="norm",
    )
    # The truth differs from the prediction in one block; elsewhere there is none.
    truth = np.zeros_like(plain)
    truth[:, 8:12, 20:30] = plain[:, 8:12, 20:30] * 2
    estimate = oracle(variables, images, ground_truth=jnp.asarray(truth))
    score = np.abs(estimate.layer_scores["heads"][0])
    assert np.all((score > 0) == (truth > 0))


def test_depth_may_be_smaller_than_the_images(images):
    def half(name):
        return lambda output: output[name][:, ::2, ::2]

    network = grumo_jax.wrap(SmallNet(), depth=half("depth"), log_sigma=half("log_sigma"))
    variables = draw_variables(SmallNet(), images)
    truth = jnp.full((3, 16, 32), 2.0)
    oracle = grumo_jax.GradientUncertainty(network, references=grumo_jax.GroundTruth())
    both = {1: oracle, 0: grumo_jax.GradientUncertainty.uncertainty_only(network)}
    estimates = grumo_jax.estimate_together(both, variables, images, ground_truth=truth)
    for references, estimate in estimates.items():
        assert estimate.depth.shape == estimate.uncertainty.shape == (3, 16, 32)
        assert estimate.reference_depth.shape == (3, references, 16, 32)
        assert np.ptp(estimate.uncertainty) > 0
    message = r"\(3, 32, 64\); expected \(3, 16, 32\), that of the predicted depth"
    with pytest.raises(grumo_jax.GrumoError, match=message):
        oracle(variables, images, ground_truth=jnp.full((3, 32, 64), 2.0))


def test_repeated_calls_do_not_compile_again(small, images):
    model, variables = small

    def count():
        return grumo_jax.estimators.base._compiled._cache_size()

    grumo_jax.PostProcessing(model)(variables, images)
    before = count()
    same = grumo_jax.wrap(SmallNet(), log_sigma=read_log_sigma, predicts="disparity")
    grumo_jax.PostProcessing(same)(variables, images)
    assert count() == before


def test_a_model_that_cannot_be_hashed_is_compiled_for_once(images):
    layers = [nn.Conv(4, (3, 3)), nn.relu, nn.Conv(1, (3, 3)), nn.softplus]
    variables = nn.Sequential(layers).init(jax.random.key(0), images)
    estimator = grumo_jax.GradientUncertainty(nn.Sequential(layers))
    with pytest.raises(TypeError):
        hash(estimator)
    first = estimator(variables, images)
    before = grumo_jax.estimators.base._compiled._cache_size()
    np.testing.assert_array_equal(estimator(variables, images).raw, first.raw)
    assert grumo_jax.estimators.base._compiled._cache_size() == before


def test_recipes_are_one_line(small, images):
    model, variables = small
    names = ("grad", "grad-averaged", "grad-variance", "grad-uncertainty")
    recipes = {name: grumo_jax.named_estimator(name, model) for name in names}
    for name, estimator in recipes.items():
        estimate = jax.eval_shape(estimator, variables, images, KEY)
        assert estimate.loss.shape == (3, 3 if name == "grad-averaged" else 1)
    # The other two are computed in the tests above.
    some = {name: recipes[name] for name in ("grad-variance", "grad-uncertainty")}
    for estimate in grumo_jax.estimate_together(some, variables, images, KEY).values():
        assert np.ptp(estimate.uncertainty) > 0


def test_dropout_ensemble_takes_the_models_own_rate():
    models = [grumo_jax.Monodepth2.tiny(dropout_rate=rate) for rate in (0.5, 0.0)]
    assert grumo_jax.DropoutEnsemble(models[0]).used_rate == 0.5
    assert grumo_jax.DropoutEnsemble(models[0], rate=0.1).used_rate == 0.1
    assert grumo_jax.DropoutEnsemble(models[1]).used_rate == 0.2
    assert grumo_jax.InferenceDropout(models[0]).used_rate == 0.2


def test_wrap_keeps_what_the_network_says_of_itself():
    model = grumo_jax.Monodepth2.tiny(predict_uncertainty=True)
    described = model.as_depth_network()
    assert grumo_jax.wrap(model) == described
    assert grumo_jax.wrap(grumo_jax.wrap(model)) == described
    changed = grumo_jax.wrap(model, decoder_layers="decoder/head_0")
    assert changed.decoder_layers == ("decoder/head_0",)
    assert changed.predicts == "disparity"


def test_the_former_name_of_references_works_and_warns(small):
    said = r"GradientUncertainty\(reference=…\) is now called references=…"
    with pytest.warns(DeprecationWarning, match=said):
        former = grumo_jax.GradientUncertainty(small[0], reference=grumo_jax.Gray())
    assert former == grumo_jax.GradientUncertainty(small[0], references=grumo_jax.Gray())


def test_one_name_is_as_good_as_a_tuple_of_one(small, images):
    network, variables = small
    makers = (
        lambda names: grumo_jax.InferenceDropout(network, layers=names, samples=2),
        lambda names: grumo_jax.GradientUncertainty(network, layers=names),
        lambda names: grumo_jax.GradientUncertainty(
            network, references=grumo_jax.FeatureNoise(layers=names)
        ),
    )
    for make in makers:
        one, several = (
            jax.jit(make(names)).lower(variables, images, KEY).as_text()
            for names in ("up2", ["up2"])
        )
        assert one == several
        assert one != jax.jit(make("up1")).lower(variables, images, KEY).as_text()


def test_errors_name_the_problem(small, images):
    model, variables = small
    cases = [
        (grumo_jax.InferenceDropout(model), (images,), "InferenceDropout draws .* pass a key"),
        (grumo_jax.PostProcessing(model), (images[0],), r"shape \(32, 64, 3\); expected \(batch"),
        (grumo_jax.Ensemble(model), (images,), "at least two members, stacked"),
        (grumo_jax.GradientUncertainty(model, layers="nowhere"), (images,), "no layer 'nowhere'"),
    ]
    for estimator, arguments, message in cases:
        with pytest.raises(grumo_jax.GrumoError, match=message):
            estimator(variables, *arguments)
    makers = [
        (lambda: grumo_jax.InferenceDropout(model, samples=1), "samples is 1"),
        (lambda: grumo_jax.InferenceDropout(model, rate=1.0), "rate is 1.0"),
        (lambda: grumo_jax.LearnedUncertainty(grumo_jax.Monodepth2()), "predicts no uncertainty"),
        (lambda: grumo_jax.LearnedUncertainty(model, head="x"), "head is 'x'"),
        (lambda: grumo_jax.TestTimeVariance(model, references=()), "expected image references"),
        (lambda: grumo_jax.stack_variables([variables]), "at least 2 members; got 1"),
        (lambda: grumo_jax.stack_variables([variables, {}]), "member 1 .* other parameters"),
        (lambda: grumo_jax.named_estimator("gard", model), "no estimator 'gard'; choose one of"),
        (lambda: grumo_jax.wrap(model, predicts="inverse"), "predicts is 'inverse'"),
    ]
    for maker, message in makers:
        with pytest.raises(grumo_jax.GrumoError, match=message):
            maker()


def test_an_estimator_is_a_function_to_jit(small, images):
    model, variables = small
    estimator = grumo_jax.PostProcessing(model)
    compiled = jax.jit(estimator)(variables, images)
    assert_trees_close(compiled, estimator(variables, images), rtol=1e-5)


class Pyramid(nn.Module):
    """An encoder that gives a list of maps."""

    @nn.compact
    def __call__(self, images):
        return nn.softplus(nn.Conv(1, (3, 3), name="head")(Scales(name="encoder")(images)[0]))


class Scales(nn.Module):
    @nn.compact
    def __call__(self, images):
        return [nn.Conv(2, (3, 3))(images), images[:, ::2, ::2]]


def test_a_layer_that_is_no_feature_map_is_explained(images):
    variables = draw_variables(Pyramid(), images)
    with pytest.raises(grumo_jax.GrumoError, match="layer 'encoder' is no feature map"):
        grumo_jax.GradientUncertainty(Pyramid(), layers="encoder")(variables, images)
