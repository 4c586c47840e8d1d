"""The methods with backward rules against captum, zennit, shap and innvestigate: values that
generate_relevance.py stored, in float64.

Where definitions agree, so do values. Where they differ, a test puts the other definition into ours, arrives at the
library's values, and shows that ours are others:

- captum's DeepLIFT loses its rule for max-pooling where a ReLU is right below;
- zennit's `SequentialMergeBatchNorm` leaves the epsilon in the norm that it has merged; without it, relevance passes a
  norm as it is; and where `x + y` is no module, each summand gets all of the relevance;
- captum's LRP takes norms by themselves, and max-pooling as a linear part; its gamma and alpha1-beta0 rules leave the
  bias as it is, and so does innvestigate's alpha-beta; its gamma rule has no other kernel where z is negative;
- zennit keeps the bias in z+ and w-square, ours leave it out unless told otherwise: both are compared;
- innvestigate begins with the score in guided backpropagation and deconvolution too; its deep Taylor explains max(0,
  score), has z+ in the first layer if that has a ReLU, and takes the gradient of average pooling.
"""

import functools
from pathlib import Path

import keras
import numpy as np
import pytest

from tests.helpers import deviation
from tests.references.networks import NETWORKS, reference_network, references
from utils import composites, relevance, rules
from utils.composites import CONVOLUTION, EPSILON, FIRST
from utils.parts import Affine, Linear, MaxPooling, Mixing
from utils.rules import alpha_beta, epsilon, flat, gamma, w_square, z_box, z_plus

EXACT = 1e-30  # a stabiliser that only keeps 0 / 0 away

# as zennit has them: the bias in all denominators, but for flat
Z_PLUS = {Linear: z_plus(bias=True)} | composites._REST
EPSILON_PLUS = {CONVOLUTION: z_plus(bias=True)} | EPSILON
ZENNIT = {
    "epsilon": EPSILON,
    "epsilon_quarter": {Linear: epsilon(0.25)} | composites._REST,
    "epsilon_plus": EPSILON_PLUS,
    "epsilon_alpha2_beta1": composites.EPSILON_ALPHA2_BETA1,
    "epsilon_gamma_box": composites.EPSILON_GAMMA_BOX,
    "epsilon_plus_flat": {FIRST: flat()} | EPSILON_PLUS,
    "alpha1_beta0": composites.ALPHA1_BETA0,
    "alpha2_beta1": composites.ALPHA2_BETA1,
    "z_plus": Z_PLUS,
    "w_square_z_plus": {FIRST: w_square(bias=True)} | Z_PLUS,
    "z_box_z_plus": {FIRST: z_box(0, 1)} | Z_PLUS,
}
BASIC = ("epsilon", "epsilon_quarter", "epsilon_plus", "epsilon_alpha2_beta1", "epsilon_gamma_box", "epsilon_plus_flat")
STORED = [(name, key) for name in NETWORKS for key in ZENNIT if name == "maximum" or key in (*BASIC, "z_plus")]
WITHOUT_BIAS = {
    "epsilon": {Linear: epsilon(bias=False)} | composites._REST,
    "gamma": {Linear: gamma(0.25, bias=False)} | composites._REST,
    "alpha2_beta1": {Linear: alpha_beta(2, 1, bias=False)} | composites._REST,
    "epsilon_plus": composites.EPSILON_PLUS,
    "epsilon_plus_flat": composites.FLAT_PLUS,
}
METHODS = {"guided_backprop": relevance.guided_backprop, "deconvolution": relevance.deconvolution}

each_network = pytest.mark.parametrize("name", NETWORKS)
each_method = pytest.mark.parametrize("method", METHODS)
each_start = pytest.mark.parametrize("start", ["zero", "image"])


@pytest.fixture(scope="module")
def stored():
    with np.load(Path(__file__).parent / "relevance.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def explained(stored):
    """What all calls have in common: the images and the classes to explain."""
    n = len(stored["average/captum/guided_backprop"])
    return references()["inputs"][:n], references()["targets"][:n]


@functools.cache
def variant(before=None, behind=None):
    """The residual network, with layers of these configurations before and behind each normalization."""

    def call(layer, *args, **kwargs):
        if not isinstance(layer, keras.layers.BatchNormalization):
            return layer(*args, **kwargs)
        x = layer(before(dtype="float64")(*args) if before else args[0])
        return behind(dtype="float64")(x) if behind else x

    model = reference_network("residual")
    copy = keras.models.clone_model(model, call_function=call)
    copy.set_weights(model.get_weights())
    return copy


# --- guided backpropagation and deconvolution


@each_network
@each_method
@pytest.mark.parametrize("library", ["captum", "zennit"])
def test_gradients_changed_at_relus(name, method, library, stored, explained):
    R = METHODS[method](reference_network(name), *explained)
    assert deviation(R, stored[f"{name}/{library}/{method}"]) < 1e-10


@pytest.mark.parametrize(
    ("name", "method"), [("average", "guided_backprop"), ("maximum", "guided_backprop"), ("maximum", "deconvolution")]
)
def test_innvestigate_begins_with_the_score(name, method, stored, explained):
    """A positive score scales the map; a negative one exchanges what is for a class and what is against it."""
    theirs = stored[f"{name}/innvestigate/{'deconvnet' if method == 'deconvolution' else method}"]
    model, (x, target) = reference_network(name), explained
    R, score = METHODS[method](model, x, target), references()[f"{name}/logits"][range(len(x)), target]
    table = {"guided_backprop": composites.GUIDED, "deconvolution": composites.DECONVOLUTION}[method]
    assert deviation(relevance.lrp(model, x, target, table), theirs) < 1e-10
    scaled = score[:, None, None, None] * R
    assert deviation(scaled[score > 0], theirs[score > 0]) < 1e-10
    assert all(deviation(scaled[[k]], theirs[[k]]) > 0.1 for k in np.flatnonzero(score < 0))
    assert deviation(R, theirs) > 0.1


# --- DeepLIFT


def deeplift(name, start, stored, explained):
    baseline = {"zero": None, "image": references()["baseline"]}[start]
    return relevance.deeplift(reference_network(name), *explained, baseline, return_completeness_error=True)


@pytest.mark.parametrize(
    ("name", "library"), [*((name, "captum") for name in NETWORKS), ("maximum", "shap"), ("residual", "shap")]
)
@each_start
def test_deeplift(name, start, library, stored, explained):
    """Captum with `+ 0` between ReLU and max-pooling, shap as it is."""
    R, error = deeplift(name, start, stored, explained)
    assert deviation(R, stored[f"{name}/{library}/deeplift/{start}"]) < 1e-10
    assert np.abs(error).max() < 1e-12


def test_captum_loses_its_rule_for_max_pooling(stored, explained, monkeypatch):
    R, _ = deeplift("maximum", "image", stored, explained)
    theirs = stored["maximum/captum/deeplift_without_zero/image"]
    assert deviation(R, theirs) > 0.1

    table = composites.deeplift_composite
    monkeypatch.setattr(composites, "deeplift_composite", lambda *args: {**table(*args), MaxPooling: None})
    R, error = deeplift("maximum", "image", stored, explained)
    assert deviation(R, theirs) < 1e-10
    assert np.abs(error).max() > 0.01  # so it is not complete


def test_captum_loses_nothing_where_the_image_wins(stored, explained):
    """With the zero baseline all units of this network that are pooled are off: the image has the larger maxima."""
    R, _ = deeplift("maximum", "zero", stored, explained)
    assert deviation(R, stored["maximum/captum/deeplift_without_zero/zero"]) < 1e-10


# --- relevance: zennit


@pytest.mark.parametrize(("name", "key"), STORED)
def test_zennit(name, key, stored, explained):
    R = relevance.lrp(reference_network(name), *explained, ZENNIT[key])
    assert deviation(R, stored[f"{name}/zennit/{key}"]) < 1e-10


@pytest.mark.parametrize(
    ("name", "key"),
    [("maximum", "epsilon"), ("maximum", "gamma"), ("maximum", "alpha2_beta1")]
    + [("residual", "epsilon"), ("residual", "epsilon_plus"), ("residual", "epsilon_plus_flat")],
)
def test_zennit_without_bias(name, key, stored, explained):
    R, theirs = (
        relevance.lrp(reference_network(name), *explained, WITHOUT_BIAS[key]),
        f"{name}/zennit/without_bias/{key}",
    )
    assert deviation(R, stored[theirs]) < 1e-10
    if key in ZENNIT:
        assert deviation(stored[f"{name}/zennit/{key}"], stored[theirs]) > 1e-3  # the bias counts


@pytest.mark.parametrize("name", ["maximum", "residual"])
@pytest.mark.parametrize(("key", "bounds"), [("deep_taylor", (0, 1)), ("deep_taylor_unbounded", (None, None))])
def test_deep_taylor(name, key, bounds, stored, explained):
    R = relevance.deep_taylor(reference_network(name), *explained, *bounds)
    assert deviation(R, stored[f"{name}/zennit/without_bias/{key}"]) < 1e-10


@pytest.mark.parametrize(("key", "rule"), [("gamma", gamma(0.25)), ("alpha2_beta1", alpha_beta(2, 1))])
def test_zennit_with_inputs_of_both_signs(key, rule, stored, explained):
    x, target = explained
    R = relevance.lrp(reference_network("maximum"), x - 0.5, target, {Linear: rule} | composites._REST)
    assert deviation(R, stored[f"maximum/zennit/signed/{key}"]) < 1e-10


@each_network
def test_zennit_at_an_inner_layer(name, stored, explained):
    model = reference_network(name)
    kind = keras.layers.ReLU if name == "residual" else (keras.layers.AveragePooling2D, keras.layers.MaxPooling2D)
    second = [layer.name for layer in model.layers if isinstance(layer, kind)][1]
    R = relevance.lrp(model, *explained, EPSILON_PLUS, layer=second)
    assert deviation(R, stored[f"{name}/zennit/inner/epsilon_plus"]) < 1e-10


@pytest.mark.parametrize("key", ["epsilon", "epsilon_gamma_box"])
def test_zennit_leaves_epsilon_in_a_merged_norm(key, stored, explained):
    """So that each norm, of mean 0 and variance 1 by then, divides by sqrt(1 + epsilon) once more."""
    theirs = stored[f"residual/zennit/epsilon_left_in/{key}"]
    assert deviation(relevance.lrp(reference_network("residual"), *explained, ZENNIT[key]), theirs) > 1e-4
    divided = variant(behind=functools.partial(keras.layers.Rescaling, np.float64((1 + 1e-3) ** -0.5)))
    assert deviation(relevance.lrp(divided, *explained, ZENNIT[key]), theirs) < 1e-10


def test_zennit_doubles_relevance_at_a_sum_that_is_no_module(stored, explained):
    theirs = stored["residual/zennit/no_rule_at_sums/epsilon_plus"]
    model = reference_network("residual")
    sums = {layer.name: None for layer in model.layers if isinstance(layer, keras.layers.Add)}
    assert len(sums) == 2
    assert deviation(relevance.lrp(model, *explained, sums | EPSILON_PLUS), theirs) < 1e-10
    assert deviation(relevance.lrp(model, *explained, EPSILON_PLUS), theirs) > 0.1
    for row in relevance.relevance_ledger(model, *explained, sums | EPSILON_PLUS):
        if row.layer in sums:
            assert deviation(row.inputs, 2 * row.incoming) < 1e-12


def test_zennit_without_merging(stored, explained):
    theirs = stored["residual/zennit/norms_not_merged/epsilon_plus"]
    apart = variant(before=keras.layers.Identity)  # something between convolution and norm, so that they are not merged
    assert deviation(relevance.lrp(apart, *explained, {Affine: rules.through} | EPSILON_PLUS), theirs) < 1e-10
    assert deviation(relevance.lrp(reference_network("residual"), *explained, EPSILON_PLUS), theirs) > 1e-3


# --- relevance: captum, which handles all inputs as if they were positive; here they are


@rules.rule
def gamma_with_plain_bias(part, inputs, output, R, eps):
    (a,), (w, b) = inputs, part.weights()
    raised = w + 0.25 * rules.positive(w)
    return [rules.shares(part, a, raised, raised, b, R, eps)]


@rules.rule
def alpha_beta_with_plain_bias(part, inputs, output, R, alpha, beta, eps):
    (a,), (w, b) = inputs, part.weights()
    up, down = rules.positive(w), rules.negative(w)
    excites = alpha * rules.shares(part, a, up, down, b, R, eps)
    return [excites - beta * rules.shares(part, a, down, up, b, R, eps) if beta else excites]


CAPTUM = {
    "epsilon": (epsilon(1e-9), epsilon(1e-9)),
    "gamma": (gamma_with_plain_bias(1e-9), gamma(0.25, eps=1e-9)),
    "alpha1_beta0": (alpha_beta_with_plain_bias(1, 0, 1e-9), alpha_beta(1, 0, eps=1e-9)),
}


@each_network
@pytest.mark.parametrize("key", CAPTUM)
def test_captums_lrp(name, key, stored, explained):
    theirs, (its_rule, our_rule) = stored[f"{name}/captum/lrp/{key}"], CAPTUM[key]
    apart = variant(before=keras.layers.Identity) if name == "residual" else reference_network(name)
    # all that is not a convolution or dense has the epsilon rule
    table = {Affine: epsilon(1e-9), Linear: its_rule, (Mixing, MaxPooling): epsilon(1e-9)} | composites._REST
    assert deviation(relevance.lrp(apart, *explained, table), theirs) < 1e-10

    table = {Linear: our_rule, Mixing: epsilon(1e-9)} | composites._REST
    R = relevance.lrp(reference_network(name), *explained, table)
    if name == "average" and key != "gamma":
        assert deviation(R, theirs) < 1e-10  # nothing to disagree about
    elif (
        key == "epsilon"
    ):  # by this rule, the winner takes all but epsilon, and a norm apart is a norm merged but for it
        assert 1e-10 < deviation(R, theirs) < 1e-4
    else:
        assert deviation(R, theirs) > 1e-3
    if (name, key) == (
        "average",
        "gamma",
    ):  # no biases: there is but its one kernel, where a negative score has another
        score = references()["average/logits"][range(len(R)), explained[1]]
        assert (score < 0).any() and deviation(R[score > 0], theirs[score > 0]) < 1e-10


# --- relevance: innvestigate, which has no stabiliser but where z is 0


def innvestigates(rule):
    return {Linear: rule, Mixing: epsilon(EXACT)} | composites._REST


ALIKE = {
    "lrp.z": epsilon(EXACT),
    "lrp.z_plus": z_plus(EXACT),
    "lrp.w_square": w_square(EXACT),
    "lrp.flat": flat(EXACT),
}


@pytest.mark.parametrize(
    ("name", "key"), [("average", "lrp.z"), ("average", "lrp.w_square"), *(("maximum", key) for key in ALIKE)]
)
def test_innvestigate(name, key, stored, explained):
    R = relevance.lrp(reference_network(name), *explained, innvestigates(ALIKE[key]))
    assert deviation(R, stored[f"{name}/innvestigate/{key}"]) < 1e-10


@pytest.mark.parametrize(("alpha", "beta"), [(1, 0), (2, 1)])
def test_innvestigates_alpha_beta(alpha, beta, stored, explained):
    """Positive and negative biases are in both denominators."""
    theirs = stored[f"maximum/innvestigate/lrp.alpha_{alpha}_beta_{beta}"]
    model = reference_network("maximum")
    rule = alpha_beta_with_plain_bias(alpha, beta, EXACT)
    assert deviation(relevance.lrp(model, *explained, innvestigates(rule)), theirs) < 1e-10
    rule = alpha_beta(alpha, beta, EXACT)
    assert deviation(relevance.lrp(model, *explained, innvestigates(rule)), theirs) > 1e-3


def test_innvestigates_deep_taylor(stored, explained):
    """On the maximum network all scores are positive: with our z-box in the first layer it is the same."""
    model = reference_network("maximum")
    theirs = stored["maximum/innvestigate/deep_taylor.bounded"]
    R = relevance.lrp(model, *explained, {FIRST: z_box(0, 1, EXACT)} | innvestigates(z_plus(EXACT)))
    assert deviation(R, theirs) < 1e-10
    assert deviation(relevance.deep_taylor(model, *explained), theirs) < 1e-4  # by the stabiliser

    theirs = stored["maximum/innvestigate/deep_taylor"]
    assert deviation(relevance.lrp(model, *explained, innvestigates(z_plus(EXACT))), theirs) < 1e-10
    assert deviation(relevance.deep_taylor(model, *explained, low=None, high=None), theirs) > 0.1  # w-square


def test_innvestigates_deep_taylor_at_average_pooling(stored, explained):
    theirs = stored["average/innvestigate/deep_taylor"]
    model, (x, target) = reference_network("average"), explained
    score = references()["average/logits"][range(len(x)), target]
    assert (score < 0).any() and not theirs[score < 0].any()
    table = innvestigates(z_plus(EXACT))
    assert deviation(relevance.lrp(model, x, target, {Mixing: None} | table)[score > 0], theirs[score > 0]) < 1e-10
    assert deviation(relevance.lrp(model, x, target, table)[score > 0], theirs[score > 0]) > 0.1
