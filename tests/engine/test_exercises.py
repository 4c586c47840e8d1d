"""An exercise says no answer, right or not yet, in one line; a wrong answer learns nothing but the hint."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from utils.exercises import check

HINT = "Look at equation 2."


@pytest.fixture
def said(capsys):
    """What `check` prints."""

    def say(*arguments, **named):
        assert check(*arguments, **named) is None
        out = capsys.readouterr().out
        assert out.count("\n") == 1 and out.endswith("\n") and out.strip() == " ".join(out.split())
        return out.strip()

    return say


@pytest.mark.parametrize(
    ("expected", "kind"),
    [(3, "a number"), ("same", "a word"), (True, "True or False"), ([1, 2], "a list or array of numbers")],
)
def test_no_answer_yet(said, expected, kind):
    words = f"No answer yet: replace None by {kind}, and run this cell again."
    assert said(None, expected, HINT) == words
    assert said([None, None], expected, HINT) == words
    assert said(None, lambda x: True, HINT).startswith("No answer yet: replace None by your answer")


RIGHT = [
    (3, 3, 0, "Right. 3 is the answer."),
    (3.0, 3, 0, "Right. 3 is the answer."),
    (0.1 + 0.2, 0.3, 0, "Right. 0.3 is the answer."),
    (np.float32(0.1), 0.1, 0, "Right. 0.1 is the answer."),
    (0.33, 1 / 3, 0.01, "Right. 0.33 is within 0.01 of the answer."),
    (tf.constant(2.5), 2.5, 0, "Right. 2.5 is the answer."),
    (np.array(7), 7, 0, "Right. 7 is the answer."),
    (float("inf"), float("inf"), 1, "Right. inf is within 1 of the answer."),
    (10**30, 10**30, 0, f"Right. {10**30} is the answer."),
    (" The  SAME ", "the same", 0, "Right. 'The SAME' is the answer."),
    (False, False, 0, "Right. False is the answer."),
    (np.bool_(True), True, 0, "Right. True is the answer."),
    ([1, 2, 3], np.array([1.0, 2.0, 3.0]), 0, "Right. Shape (3,): 3 of 3 agree."),
    (tf.ones((2, 3)), np.full((2, 3), 0.99), 0.05, "Right. Shape (2, 3): 6 of 6 agree within 0.05."),
    (range(3), (0, 1, 2), 0, "Right. Shape (3,): 3 of 3 agree."),
    (["Conv1", "conv 2"], ("conv1", "conv2"), 0, "Right. Shape (2,): 2 of 2 agree."),
    ([True, False], np.array([True, False]), 0, "Right. Shape (2,): 2 of 2 agree."),
    ([], [], 0, "Right. Shape (0,): 0 of 0 agree."),
]


@pytest.mark.parametrize(("answer", "expected", "tolerance", "words"), RIGHT)
def test_right(said, answer, expected, tolerance, words):
    assert said(answer, expected, HINT, tolerance) == words


WRONG = [
    (4, 3.25, 0, "Not yet. 4 is not it."),
    (0.3, 1 / 3, 0.01, "Not yet. 0.3 is not it."),
    (1.0001, 1, 0, "Not yet. 1.0001 is not it."),
    (10**30 + 1, 10**30, 0, f"Not yet. {10**30 + 1} is not it."),
    (1e300, float("inf"), 1, "Not yet. 1e+300 is not it."),
    ("other", "same", 0, "Not yet. 'other' is not it."),
    (True, False, 5, "Not yet. True is not it."),
    ([1, 2, 4], [1, 2, 3], 0, "Not yet."),
    ([1, 2], [1, 2, 3], 0, "Not yet. Received: shape (2,). Expected: shape (3,)."),
    (np.ones((3, 1)), np.ones(3), 0, "Not yet. Received: shape (3, 1). Expected: shape (3,)."),
    ([], [1, 2], 0, "Not yet. Received: shape (0,). Expected: shape (2,)."),
    ([[1], [1, 2]], [1, 2], 0, "Not yet. Received: a list with rows of different lengths. Expected: a list or array"),
    (float("nan"), 3, 0, "Not yet. Received: NaN, which is not a number."),
    ([1, np.nan], [1, 2], 9, "Not yet. Received: NaN, which is not a number."),
    (True, 1, 0, "Not yet. Received: True or False. Expected: a number."),
    (1, True, 0, "Not yet. Received: a number. Expected: True or False."),
    ([True, 2], [1, 2], 0, "Not yet. Received: a list or array of True or False and numbers. Expected: a list or"),
    ("3", 3, 0, "Not yet. Received: a word. Expected: a number."),
    (3, "three", 0, "Not yet. Received: a number. Expected: a word."),
    ([3], 3, 0, "Not yet. Received: a list or array of numbers. Expected: a number."),
    (3, [3], 0, "Not yet. Received: a number. Expected: a list or array of numbers."),
    ({3}, 3, 0, "Not yet. Received: an object of type set. Expected: a number."),
    (1j, 3, 0, "Not yet. Received: an object of type complex. Expected: a number."),
    (keras.Input((2,)), 3, 0, "Not yet. Received: an object of type KerasTensor. Expected: a number."),
    (len, 3, 0, "Not yet. Received: a function. Expected: a number. Call it?"),
]


@pytest.mark.parametrize(("answer", "expected", "tolerance", "words"), WRONG)
def test_not_yet(said, answer, expected, tolerance, words):
    line = said(answer, expected, HINT, tolerance)
    assert line.startswith(words) and line.endswith(HINT)
    assert len(line) < 250


def test_a_wrong_answer_does_not_learn_the_right_one(said):
    for wrong, expected, given_away in ((1, 7391, "7391"), ("a", "zebra", "zebra"), ([1, 2], [1, 7391], "7391")):
        for answer in (wrong, None, True, 0.5, [0.5], "word", float("nan")):
            assert given_away not in said(answer, expected, HINT)


def test_the_line_of_a_long_answer_is_short(said):
    assert len(said("word " * 1000, "other")) < 120 and len(said(10**500, 3)) < 120
    assert said(2, 3, "one\n  two") == "Not yet. 2 is not it. one two"


def square(x):
    return x * x


def stub(x):
    return None


def test_functions_are_tried(said):
    def judge(f):
        return np.allclose(f(np.arange(3)), [0, 1, 4])

    assert said(square, judge, HINT) == "Right. It does what is asked."
    assert said(lambda x: x, judge, HINT) == f"Not yet. {HINT}"
    assert said(stub, judge, HINT).startswith("No answer yet: stub returns None; write what it is to return")
    assert said(stub, lambda f: f(1) is None).startswith("No answer yet")  # nothing is not right by accident
    line = said(lambda x: x[5], judge, HINT)
    assert line.startswith("Not yet. When it was tried: IndexError: index 5 is out of bounds") and line.endswith(HINT)
    assert said(3, judge, HINT) == f"Not yet. When it was tried: TypeError: 'int' object is not callable. {HINT}"
    assert said(square, lambda f: f(2) == np.array([4, 4])).startswith("Not yet. Tried, it gave a list or array of Tr")
    assert said(square, lambda f: f(2)).startswith("Not yet. Tried, it gave a number, not True or False")
    assert said(square, lambda f: "yes").startswith("Not yet. Tried, it gave a word")


def test_errors_are_told_the_same_each_time(said):
    class Odd(Exception):
        pass

    def fails(x):
        raise Odd(f"no place for {object()}\n" + "word " * 500)

    line = said(fails, lambda f: f(1))
    assert line.startswith("Not yet. When it was tried: Odd: no place for <object object> word") and "0x" not in line
    assert len(line) < 260


def test_a_function_judges_the_answer_as_it_is(said):
    array = np.ones((2, 3))
    assert said(array, lambda R: R is array and R.shape == (2, 3)) == "Right. It does what is asked."
    assert said(np.nan, lambda x: True) == "Not yet. Received: NaN, which is not a number."
    assert said(5, lambda x: tf.constant(x > 3)) == "Right. It does what is asked."


@pytest.mark.parametrize("expected", [None, float("nan"), [1, np.nan], {1}, [[1], [1, 2]], [1, None], 1j])
def test_questions_without_an_answer_are_refused(expected):
    with pytest.raises(ValueError, match="there is no right answer. Received: expected="):
        check(None, expected)


@pytest.mark.parametrize("tolerance", [-1, float("nan"), float("inf"), True, None, "0.1"])
def test_tolerances_that_are_none_are_refused(tolerance):
    with pytest.raises(ValueError, match="tolerance must be a finite number of at least 0. Received"):
        check(None, 3, tolerance=tolerance)


def test_a_hint_that_is_no_text_is_refused():
    with pytest.raises(ValueError, match="hint must be a text. Received: 0.1"):
        check(3, 3, 0.1)
