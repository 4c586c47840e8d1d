"""Known defects of explanation libraries, put back on purpose: each must make a check fail.

A check is a function that raises an AssertionError. It runs as things are, and then with the defect.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

from tests.helpers import F, close, dense, noise, pixels, randomize, refused, sequential, stable
from utils import attributions, composites, parts, relevance, rules, scores, trace
from utils.parts import Linear, Mixing

# --- the checks


def check_the_logit_is_explained():
    model, x = sequential((5,), dense(4, "relu"), dense(3, "softmax")), noise(4, 5)
    W1, b1, W2, _ = model.get_weights()
    expected = ((x @ W1 + b1 > 0) * W2[:, 1]) @ W1.T
    close(attributions.gradient(model, x, 1), expected)


def check_guided_at_relu_layers():
    model, x = sequential((5,), dense(6), L.ReLU(**F), dense(3)), noise(4, 5)
    W1, b1, W2, _ = model.get_weights()
    close(attributions.guided_backprop(model, x, 1), ((x @ W1 + b1 > 0) * np.maximum(W2[:, 1], 0)) @ W1.T)


def check_guided_in_inner_models():
    inner = keras.Sequential([keras.Input((5,), **F), dense(6, "relu"), dense(6, "relu")])
    model, x = sequential((5,), inner, dense(3)), noise(4, 5)
    W1, b1, W2, b2, W3, _ = model.get_weights()
    h1 = x @ W1 + b1
    h2 = np.maximum(h1, 0) @ W2 + b2
    g = (h1 > 0) * np.maximum(((h2 > 0) * np.maximum(W3[:, 1], 0)) @ W2.T, 0)
    close(attributions.guided_backprop(model, x, 1), g @ W1.T)


def check_the_relevance_sums_to_the_score():
    model, x = sequential((5,), dense(6, "relu", use_bias=False), dense(3, use_bias=False)), noise(4, 5)
    R = attributions.lrp(model, x, 1, {Linear: rules.epsilon(1e-12)} | composites.EPSILON)
    close(R.sum(1), model(x).numpy()[:, 1])


def check_completeness():
    model, x, start = sequential((5,), dense(6, "tanh"), dense(3)), noise(4, 5), noise(4, 5, seed=2)
    R = attributions.integrated_gradients(model, x, 1, start, steps=32, rule="gauss")
    close(R.sum(1), (model(x) - model(start)).numpy()[:, 1], 1e-4)


def check_residual_sums_conserve():
    x = keras.Input((5,), **F)
    hidden = dense(5, "relu", use_bias=False)(x)
    total = L.Add(**F)([hidden, dense(5, use_bias=False)(hidden)])
    model, points = randomize(keras.Model(x, dense(3, use_bias=False)(total))), noise(4, 5)
    table = {Linear: rules.epsilon(1e-12), Mixing: rules.epsilon(1e-12)} | composites.EPSILON
    close(attributions.lrp(model, points, 1, table).sum(1), model(points).numpy()[:, 1])


def check_alpha_beta_keeps_the_bias_in_its_half():
    model, x = sequential((5,), dense(3)), noise(4, 5)
    W, b = model.get_weights()
    C, z = x[:, :, None] * W, x @ W + b
    up, down = np.maximum(C, 0), np.minimum(C, 0)
    shares = 2 * up / stable(up.sum(1) + np.maximum(b, 0))[:, None]
    shares -= down / stable(down.sum(1) + np.minimum(b, 0))[:, None]
    close(attributions.lrp(model, x, 1, "ALPHA2_BETA1"), (shares * z[:, None])[:, :, 1])


def check_the_winner_of_max_pooling_takes_all():
    model = keras.Sequential([keras.Input((4, 4, 1), **F), L.MaxPooling2D(2, **F), L.Flatten(**F)])
    x = noise(1, 4, 4, 1)
    R = attributions.lrp(model, x, 1, "EPSILON")[0, ..., 0]
    window = x[0, :2, 2:, 0]
    assert np.count_nonzero(R) == 1
    close(R[:2, 2:], window * (window == window.max()))


def check_epsilon_is_a_sum_over_weights():
    model, x = sequential((5,), dense(3)), noise(16, 5)
    W, b = model.get_weights()
    z = x @ W + b
    assert (z[:, 1] < -0.1).any()
    close(attributions.lrp(model, x, 1, {Linear: rules.epsilon(1 / 16)} | composites.EPSILON), own_epsilon(x, W, z))


def own_epsilon(x, W, z):
    s = z / (z + np.where(z >= 0, 1 / 16, -1 / 16))
    return (x[:, :, None] * W * s[:, None])[:, :, 1]


def check_a_norm_is_merged_as_it_computes():
    model, x = sequential((5,), dense(4), L.BatchNormalization(epsilon=0.1, **F), L.ReLU(**F), dense(3)), noise(4, 5)
    W, b, g, beta, mean, variance, W2, b2 = model.get_weights()
    scale = g / np.sqrt(variance + 0.1)
    folded = keras.Sequential([keras.Input((5,), **F), dense(4, "relu"), dense(3)])
    folded.set_weights([W * scale, (b - mean) * scale + beta, W2, b2])
    for name in ("EPSILON", "ALPHA1_BETA0"):
        close(attributions.lrp(model, x, 1, name), attributions.lrp(folded, x, 1, name))


def check_images_do_not_influence_each_other():
    model, x = sequential((5,), dense(6, "relu"), dense(3)), noise(4, 5)
    for name in ("lrp", "deeplift", "guided_backprop"):
        method = attributions.METHODS[name]
        close(method(model, x, 1)[2:3], method(model, x[2:3], 1))


def check_the_kernel_is_not_transposed():
    model, x = sequential((5,), dense(5, use_bias=False)), noise(4, 5)
    (W,) = model.get_weights()
    z = x @ W
    close(attributions.lrp(model, x, 1, "EPSILON"), x * W[:, 1] * (z / stable(z))[:, 1:2])
    plus = np.maximum(x[:, :, None] * W, 0)
    expected = (plus / stable(plus.sum(1))[:, None] * z[:, None])[:, :, 1]
    close(attributions.lrp(model, x, 1, {Linear: rules.z_plus()} | composites.EPSILON), expected)


# --- the defects: each replaces something in `utils`


def keep_the_softmax(patch):
    patch.setattr(scores, "logits_of", lambda model, verbose=True: model)
    patch.setattr(scores.Scores, "check_outputs", lambda self, x, outputs: None)


def overlook_relu_layers(patch):
    guided = rules.guided

    def of_fused_relus(part, inputs, output, R):
        return rules.pullback(part, inputs, R) if isinstance(part.layer, L.ReLU) else guided(part, inputs, output, R)

    patch.setitem(composites.GUIDED, parts.ReLU, of_fused_relus)


def leave_inner_models_as_they_are(patch):
    place = trace.Trace._place

    def with_the_gradient(self, layer, function, inputs, is_tensor):
        if layer.name == "scores":  # the only layer of the outer model
            return place(self, layer, function, inputs, is_tensor)
        self.steps.append(trace.Step(parts.Part(layer, function), None, inputs, function(*inputs)))
        return self.steps[-1].output

    patch.setattr(trace.Trace, "_place", with_the_gradient)


def multiply_by_the_score(patch):
    backward = relevance._backward

    def times_score(f, x, target, *rest, **how):
        R = backward(f, x, target, *rest, **how)
        return R * f(x, target).reshape(-1, *[1] * (R.ndim - 1))

    patch.setattr(relevance, "_backward", times_score)


def forget_the_way(patch):
    whole = attributions.integrated_gradients

    def average_alone(model, x, target=None, baseline=None, **how):
        start = scores.scores_of(model).baselines(baseline, x)
        return whole(model, x, target, baseline, **how) / (x - start)

    patch.setattr(attributions, "integrated_gradients", average_alone)


def hand_all_to_each_branch(patch):
    pullback = rules.pullback

    def doubled(function, inputs, upper):
        return [len(inputs) * lower for lower in pullback(function, inputs, upper)]

    patch.setattr(rules.propagation, "pullback", doubled)


def swap_the_halves_of_the_bias(patch):
    shares = rules.shares

    def with_all_of_the_bias(part, a, up, down, b, *rest, **how):
        other = None if b is None else part.weights()[1] - b
        return shares(part, a, up, down, other, *rest, **how)

    patch.setattr(rules.propagation, "shares", with_all_of_the_bias)


def spread_over_the_window(patch):
    def spread(part, inputs, output, R):
        size = part.layer.pool_size[0]
        return [tf.repeat(tf.repeat(R / size**2, size, 1), size, 2)]

    patch.setitem(composites.NAMED, "EPSILON", {parts.MaxPooling: spread} | composites.EPSILON)


def add_the_stabiliser_whatever_the_sign(patch):
    def wrong(part, R, z, eps, *rest, **how):
        return R / (z + tf.cast(eps, z.dtype))

    patch.setattr(rules.propagation, "divide", wrong)


def subtract_the_stabiliser(patch):
    def wrong(part, R, z, eps, *rest, **how):
        return R / (z - tf.cast(tf.where(z >= 0, eps, -eps), z.dtype))

    patch.setattr(rules.propagation, "divide", wrong)


def merge_a_norm_with_another_epsilon(patch):
    def wrong(norm):
        scale = norm.gamma * tf.math.rsqrt(norm.moving_variance + 1e-3)
        return scale, norm.beta - norm.moving_mean * scale

    patch.setattr(parts.linear, "scale_and_shift", wrong)
    patch.setattr(relevance, "refuse_other_values", lambda *arguments: None)


def mix_the_batch(patch):
    pullback = rules.pullback

    def mixed(function, inputs, upper):
        return [lower + 1e-3 * tf.reduce_mean(lower, 0, keepdims=True) for lower in pullback(function, inputs, upper)]

    for module in (trace, rules.propagation, rules.deeplift):
        patch.setattr(module, "pullback", mixed)


def transpose_kernels(patch):
    linear_parts = parts.linear_parts

    def transposed(layer):
        return [
            part.given(weights=lambda weights=part.weights: (tf.transpose(weights()[0]), weights()[1]))
            for part in linear_parts(layer)
        ]

    patch.setattr(parts.layers, "linear_parts", transposed)
    patch.setattr(relevance, "refuse_other_values", lambda *arguments: None)


DEFECTS = [
    (keep_the_softmax, check_the_logit_is_explained),
    (overlook_relu_layers, check_guided_at_relu_layers),
    (leave_inner_models_as_they_are, check_guided_in_inner_models),
    (multiply_by_the_score, check_the_relevance_sums_to_the_score),
    (forget_the_way, check_completeness),
    (hand_all_to_each_branch, check_residual_sums_conserve),
    (swap_the_halves_of_the_bias, check_alpha_beta_keeps_the_bias_in_its_half),
    (spread_over_the_window, check_the_winner_of_max_pooling_takes_all),
    (add_the_stabiliser_whatever_the_sign, check_epsilon_is_a_sum_over_weights),
    (subtract_the_stabiliser, check_epsilon_is_a_sum_over_weights),
    (merge_a_norm_with_another_epsilon, check_a_norm_is_merged_as_it_computes),
    (mix_the_batch, check_images_do_not_influence_each_other),
    (transpose_kernels, check_the_kernel_is_not_transposed),
]


@pytest.mark.parametrize(("defect", "check"), DEFECTS, ids=[defect.__name__ for defect, _ in DEFECTS])
def test_a_defect_is_noticed(defect, check, monkeypatch):
    check()
    defect(monkeypatch)
    with pytest.raises(AssertionError):
        check()


@pytest.mark.parametrize("defect", [merge_a_norm_with_another_epsilon, transpose_kernels])
def test_other_values_are_refused_at_once(defect, monkeypatch):
    compares = relevance.refuse_other_values
    defect(monkeypatch)
    monkeypatch.setattr(relevance, "refuse_other_values", compares)
    model = sequential((5,), dense(5), L.BatchNormalization(epsilon=0.1, **F), dense(5))
    with pytest.raises(ValueError, match="do not compute what the model computes"):
        attributions.lrp(model, noise(2, 5), 1, "EPSILON")


def test_a_model_that_a_composite_would_compute_otherwise_is_noticed(monkeypatch):
    monkeypatch.setattr(trace, "with_padding", lambda padding, linear: linear)
    model = sequential(
        (6, 1), L.ZeroPadding1D(1, **F), L.Conv1D(2, 3, padding="same", **F), L.GlobalAveragePooling1D(**F)
    )
    with refused("do not compute what the model computes", "scores differ"):
        attributions.lrp(model, pixels(3, 6, 1), 0, {composites.CONVOLUTION: rules.epsilon()} | composites.EPSILON)
