"""`Trace.describe`: which rule served which layer, and a rule as a value."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import layers as L

from tests.helpers import F, noise, norm, plain_net, randomize
from utils import rules
from utils.composites import EPSILON, EPSILON_GAMMA_BOX, FIRST, NAMED, key_of
from utils.relevance import relevance_ledger
from utils.trace import Trace


def net():
    x = keras.Input((6, 6, 2), **F)
    y = L.ReLU(name="relu", **F)(norm()(L.Conv2D(3, 3, name="conv", **F)(x)))
    y = L.Conv2D(3, 3, padding="same", name="branch", **F)(y) + y
    return randomize(keras.Model(x, L.Dense(4, "softmax", name="head", **F)(L.Flatten(name="flatten", **F)(y))))


@pytest.mark.parametrize("name", ["EPSILON", "ALPHA1_BETA0"])
def test_the_shares_are_those_of_the_ledger(name):
    model, x = net(), noise(3, 6, 6, 2)
    rows, ledger = Trace(model, x, name).describe(1), relevance_ledger(model, x, 1, name)
    assert [row.layer.split(" + ")[0] for row in rows] == [row.layer for row in ledger]
    for row, entry in zip(rows, ledger):
        assert row.goes_on == pytest.approx(entry.inputs.sum() / entry.incoming.sum(), rel=1e-9)


def test_it_tells_layers_parts_rules_and_shapes():
    table = {FIRST: rules.z_box(-9, [9.0, 8.0]), "branch": rules.gamma(0.1), "head": rules.epsilon(0.25)} | EPSILON
    rows = {(row.layer, row.part): row for row in Trace(net(), noise(3, 6, 6, 2), table).describe()}
    assert rows["head", "Linear"].rule == "epsilon(eps=0.25)" and rows["head", "Linear"].shapes == "48 -> 4"
    assert rows["branch", "Linear"].rule == "gamma(gamma=0.1, eps=1e-06)"
    (first,) = [row for (layer, part), row in rows.items() if layer.startswith("conv + batch_norm")]
    assert first.rule == "z_box(low=-9, high=array [2], eps=1e-06)" and first.shapes == "6 x 6 x 2 -> 4 x 4 x 3"
    assert rows["relu", "ReLU"].rule == "through()" and rows["flatten", "Routing"].rule == "gradient"


def test_it_shows_as_text_and_as_a_table():
    found = Trace(plain_net(), noise(3, 8, 7, 2), EPSILON).describe()
    lines = str(found).splitlines()
    assert lines[0].split() == ["layer", "type", "part", "rule", "shapes", "goes", "on"] and len(lines) == 2 + len(
        found
    )
    assert len({len(line.rstrip()) <= 120 for line in lines}) == 1 and repr(found) == str(found)
    table = found._repr_html_()
    assert table.count("<tr>") == 1 + len(found) and "-&gt;" in table and "<script" not in table


def test_it_explains_the_predicted_class_or_the_one_that_is_named():
    model, x = net(), noise(1, 6, 6, 2)
    c = int(model(x).numpy().argmax())
    predicted, named, other = (Trace(model, x, EPSILON).describe(target) for target in (None, c, (c + 1) % 4))
    assert predicted == named != other


# --- a rule as a value


def test_rules_are_equal_by_function_and_parameters():
    assert rules.epsilon == rules.epsilon() == rules.epsilon(1e-6) == rules.epsilon(eps=1e-6, bias=True)
    assert hash(rules.epsilon) == hash(rules.epsilon(1e-6)) and rules.epsilon(0.25) != rules.epsilon()
    assert rules.alpha_beta(1, 0) != rules.alpha_beta(2, 1) == rules.alpha_beta()
    assert rules.z_box(0, [1.0, 2.0]) == rules.z_box(0, np.array([1.0, 2.0])) != rules.z_box(0, [1.0, 3.0])
    assert rules.z_box(0, np.ones(4)) != rules.z_box(0, np.ones((2, 2))) and rules.gamma(0.1)(0.2) == rules.gamma(0.2)
    assert rules.epsilon(relative=True) != rules.epsilon() and rules.through != rules.signal
    assert {rules.epsilon(), rules.epsilon(1e-6), rules.gamma()} == {rules.epsilon, rules.gamma}


def test_a_rule_cannot_be_changed():
    bounds = np.ones(3)
    box = rules.z_box(0, bounds)
    bounds[:] = 7
    assert box.value("high").tolist() == [1, 1, 1]
    with pytest.raises(ValueError):
        box.value("high")[0] = 7
    with pytest.raises(dataclasses.FrozenInstanceError):
        box.keeps_zeros = True


def test_tables_of_equal_content_have_equal_keys():
    one, other = ({FIRST: rules.z_box(0, [1, 1])} | EPSILON for _ in range(2))
    assert key_of(one) == key_of(other) and hash(key_of(one)) == hash(key_of(other))
    assert len({key_of(table) for table in NAMED.values()}) == len(NAMED)
    assert key_of(EPSILON_GAMMA_BOX) != key_of({FIRST: rules.z_box(0, 2)} | EPSILON_GAMMA_BOX)


def test_rules_show_their_docstrings():
    for name in ("epsilon", "gamma", "z_box", "rescale_max", "reveal_cancel"):
        assert len(getattr(rules, name).__doc__) > 60 and repr(getattr(rules, name)).startswith(name + "(")
