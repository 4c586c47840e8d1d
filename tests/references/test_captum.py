"""The gradient methods against captum: values that generate.py stored, in float64.

One definition differs. Captum's integrated gradients use a rounded rule: its weights pass through float32, its nodes
too (not those of Gauss and Legendre), and the weights of its trapezoid sum to (n - 1) / n. Three tests take the
difference apart: `test_captums_rules` shows that its rules are ours but for these things,
`test_integrated_gradients_with_captums_rule` that they alone lead to its values, and `test_integrated_gradients`
that ours differ from its by no more than that.
"""

import keras
import numpy as np
import pytest

from tests.helpers import QUADRATURES, deviation
from tests.references.networks import NETWORKS, reference_network, references
from utils import attributions

STARTS = ("zero", "image")
HALF_ULP = 2.0**-24  # relative error of a number that was rounded to float32

each_network = pytest.mark.parametrize("name", NETWORKS)
each_rule = pytest.mark.parametrize("rule", QUADRATURES)
each_start = pytest.mark.parametrize("start", STARTS)


@pytest.fixture(scope="module")
def stored():
    return references()


@pytest.fixture(scope="module")
def explained(stored):
    """What all calls have in common: the images and the classes to explain."""
    return stored["inputs"], stored["targets"]


def baseline_of(stored, start):
    return {"zero": None, "image": stored["baseline"]}[start]


def probabilities(name):
    """The network `name` with a softmax on top."""
    logits = reference_network(name)
    return keras.Model(logits.inputs[0], keras.layers.Softmax(dtype="float64")(logits.outputs[0]))


def true_rule(rule, n):
    """Nodes and weights of a rule on [0, 1], written down apart from the code that is tested."""
    ks = range(n)
    if rule == "gauss":  # Golub and Welsch: from the eigenvectors of the Jacobi matrix
        beside = np.array([k / np.sqrt(4 * k * k - 1) for k in ks[1:]])
        nodes, vectors = np.linalg.eigh(np.diag(beside, 1) + np.diag(beside, -1))
        return (1 + nodes) / 2, vectors[0] ** 2
    if rule == "trapezoid":
        return np.array([k / (n - 1) for k in ks]), np.array([(1 if 0 < k < n - 1 else 0.5) / (n - 1) for k in ks])
    first = {"left": 0, "midpoint": 0.5, "right": 1}[rule]
    return np.array([(k + first) / n for k in ks]), np.full(n, 1 / n)


def captums_rule(stored, rule):
    """Nodes and weights as captum multiplies with them: it converts its step sizes to float32."""
    step_sizes = stored[f"rules/{rule}/step_sizes"]
    return stored[f"rules/{rule}/nodes"], step_sizes.astype("float32").astype("float64")


def path_sum(model, x, target, baseline, nodes, weights, **arguments):
    """The definition, term by term: (x - x') sum_k w_k grad f_c(x' + a_k (x - x'))."""
    start = np.zeros_like(x) + (0 if baseline is None else baseline)
    total = np.zeros_like(x)
    for alpha, weight in zip(nodes, weights):
        total += weight * attributions.gradient(model, (1 - alpha) * start + alpha * x, target, **arguments)
    return (x - start) * total


# --- the networks are the same


@each_network
def test_logits(name, stored):
    logits = reference_network(name)(stored["inputs"]).numpy()  # predict would round the images to float32
    assert deviation(logits, stored[f"{name}/logits"]) < 1e-12


# --- methods that are defined alike


@each_network
def test_gradient(name, stored, explained):
    R = attributions.gradient(reference_network(name), *explained)
    assert deviation(R, stored[f"{name}/saliency"]) < 1e-10


@each_network
def test_gradient_x_input(name, stored, explained):
    R = attributions.gradient_x_input(reference_network(name), *explained)
    assert deviation(R, stored[f"{name}/input_x_gradient"]) < 1e-10


@each_network
def test_gradient_of_a_probability(name, stored, explained):
    model = probabilities(name)
    R = attributions.gradient(model, *explained, explain="output")
    assert deviation(R, stored[f"{name}/output/saliency"]) < 1e-10
    R = attributions.gradient(model, *explained)  # the logit below the softmax
    assert deviation(R, stored[f"{name}/saliency"]) < 1e-10


@each_network
@pytest.mark.parametrize("variant", ["mean", "square", "variance"])
def test_smoothgrad(name, variant, stored, explained):
    noise, seed = stored["noise"], int(stored["seed"])
    np.testing.assert_array_equal(noise, np.random.default_rng(seed).standard_normal(noise.shape))
    model, sigma, expected = reference_network(name), float(stored["sigma"]), stored[f"{name}/smoothgrad/{variant}"]
    for batch_size in (None, 3):  # all draws at once, or in parts
        R = attributions.smoothgrad(
            model, *explained, sigma, len(noise), variant=variant, seed=seed, batch_size=batch_size
        )
        assert deviation(R, expected) < 1e-10


# --- integrated gradients


@each_rule
def test_captums_rules(rule, stored):
    n = int(stored["steps"])
    nodes, weights = true_rule(rule, n)
    captums_nodes, step_sizes = stored[f"rules/{rule}/nodes"], stored[f"rules/{rule}/step_sizes"]
    if rule == "gauss":
        np.testing.assert_allclose(captums_nodes, nodes, rtol=0, atol=1e-14)
    else:  # a rounded step, its multiple and their sum: two roundings of a number below 1
        np.testing.assert_array_equal(captums_nodes, captums_nodes.astype("float32"))
        np.testing.assert_allclose(captums_nodes, nodes, rtol=0, atol=2 * HALF_ULP)
    np.testing.assert_allclose(step_sizes, weights * (n - 1) / n if rule == "trapezoid" else weights, rtol=1e-12)


@each_network
@each_rule
@each_start
def test_integrated_gradients(name, rule, start, stored, explained):
    model, baseline, steps = reference_network(name), baseline_of(stored, start), int(stored["steps"])
    R, error = attributions.integrated_gradients(
        model, *explained, baseline, steps, rule, return_completeness_error=True
    )
    assert deviation(R, path_sum(model, *explained, baseline, *true_rule(rule, steps))) < 1e-10
    in_parts = attributions.integrated_gradients(model, *explained, baseline, steps, rule, batch_size=7)
    assert deviation(in_parts, R) < 1e-10

    captums = stored[f"{name}/integrated_gradients/{rule}/{start}"]
    ratio = captums_rule(stored, rule)[1].sum()  # of the sums of the weights: ours sum to 1
    if rule == "gauss":
        assert deviation(R, captums) < HALF_ULP  # each weight has an error of its own
    else:
        assert deviation(R * ratio, captums) < 1e-10  # all weights have the same
    difference = captums.sum((1, 2, 3)) - stored[f"{name}/convergence_delta/{rule}/{start}"]
    assert deviation(R.sum((1, 2, 3)) - error, difference) < 1e-10  # f_c(x) - f_c(x')


@each_network
@each_rule
@each_start
def test_integrated_gradients_with_captums_rule(name, rule, start, stored, explained):
    nodes, weights = captums_rule(stored, rule)
    R = path_sum(reference_network(name), *explained, baseline_of(stored, start), nodes, weights)
    assert deviation(R, stored[f"{name}/integrated_gradients/{rule}/{start}"]) < 1e-10


@each_network
def test_integrated_gradients_of_a_probability(name, stored, explained):
    """Along the straight pieces of a logit only the weights count; along a curve the nodes do, too."""
    model, baseline, steps = probabilities(name), stored["baseline"], int(stored["steps"])
    captums = stored[f"{name}/output/integrated_gradients/trapezoid/image"]
    nodes, weights = captums_rule(stored, "trapezoid")
    R = path_sum(model, *explained, baseline, nodes, weights, explain="output")
    assert deviation(R, captums) < 1e-10

    R = attributions.integrated_gradients(model, *explained, baseline, steps, "trapezoid", explain="output")
    expected = path_sum(model, *explained, baseline, *true_rule("trapezoid", steps), explain="output")
    assert deviation(R, expected) < 1e-10
    assert 1e-10 < deviation(R * weights.sum(), captums) < 1e-7  # what its rounded nodes change
