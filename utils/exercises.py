"""Exercises that answer: `check` says in one line whether what the reader wrote is right, and never gives it away.

A notebook whose exercises are not yet solved runs through: no answer, however odd, raises. A question that is asked
wrongly (nothing expected, a tolerance below zero) does.
"""

import functools
import inspect
import math
import re
import textwrap

import numpy as np

ROUND_OFF = 1e-6  # of the expected number: what float32 loses on the way to an answer that is meant to be the same


def check(answer, expected, hint="", tolerance=0.0):
    """Print one line: that there is no answer yet, that it is right, or that it is not yet, with the hint.

    Args:
        answer: what the reader wrote; None as long as there is nothing. A number, a word, True or False, a list or
            array of these, of any shape, or whatever the function `expected` takes, such as a function.
        expected: the right answer; of words, capitals and blanks do not matter. Or a function of the answer that
            returns True or False; an error that it raises counts as not yet and is named.
        hint: what a reader reads whose answer is not right yet.
        tolerance: the largest difference of a number from the expected one, in the same units. With 0, an integer
            has to be the same, and a number with a point up to `ROUND_OFF` of the expected one.

    Raises:
        ValueError: a question to which there is no right answer: `expected` is None, NaN or of another kind than
            those above, or `tolerance` is no number of at least 0.
    """
    _check_question(expected, hint, tolerance)
    if callable(expected):
        said = _judged_by_function(answer, expected)
    else:
        said = _judged(_plain(answer), _plain(expected), tolerance)
    if said.startswith("Not yet"):
        said = f"{said} {hint}"
    print(" ".join(said.split()))


def _check_question(expected, hint, tolerance):
    is_number = _kind(_plain(tolerance)) == "a number"
    if not is_number or not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance must be a finite number of at least 0. Received: {tolerance!r}.")
    if not isinstance(hint, str):
        raise ValueError(f"hint must be a text. Received: {hint!r}.")
    if callable(expected):
        return
    plain = _plain(expected)
    known = {"a number", "a word", "True or False"}
    if not {_kind(leaf) for leaf in _leaves(plain)} <= known or _shape(plain) is None or _has_nan(plain):
        raise ValueError(
            f"To this there is no right answer. Received: expected={expected!r}. Expected: a number that is not NaN, "
            "a word, True or False, an array of one of these, or a function that returns True or False."
        )


def _judged_by_function(answer, expected):
    """What is said of an answer that the function `expected` judges."""
    if _has_none(_plain(answer)):
        return "No answer yet: replace None by your answer, and run this cell again."
    if _has_nan(_plain(answer)):
        return "Not yet. Received: NaN, which is not a number."
    returned = []
    if inspect.isfunction(answer):
        name, answer = answer.__name__, _recorded(answer, returned)
    verdict, raised = None, None
    try:
        verdict = _plain(expected(answer))
    except Exception as error:
        words = textwrap.shorten(re.sub(r" at 0x[0-9a-fA-F]+", "", str(error)), 200, placeholder=" ...")
        raised = ": ".join(filter(None, (type(error).__name__, words.rstrip("."))))
    if any(value is None for value in returned):
        return f"No answer yet: {name} returns None; write what it is to return, and run both cells again."
    if raised:
        return f"Not yet. When it was tried: {raised}."
    if isinstance(verdict, bool):
        return "Right. It does what is asked." if verdict else "Not yet."
    return f"Not yet. Tried, it gave {_described(verdict)}, not True or False."


def _recorded(function, returned):
    """The same function, which also puts what it returns into the list `returned`."""

    @functools.wraps(function)
    def call(*arguments, **named):
        returned.append(function(*arguments, **named))
        return returned[-1]

    return call


def _judged(answer, expected, tolerance):
    """What is said of an answer that is to be `expected`; both consist of Python's own values."""
    if _has_none(answer):
        return f"No answer yet: replace None by {_described(expected)}, and run this cell again."
    if _described(answer) != _described(expected) and [] not in (answer, expected):
        call = " Call it?" if callable(answer) else ""
        return f"Not yet. Received: {_described(answer)}. Expected: {_described(expected)}.{call}"
    if _has_nan(answer):
        return "Not yet. Received: NaN, which is not a number."
    if _shape(answer) != _shape(expected):
        return f"Not yet. Received: shape {_shape(answer)}. Expected: shape {_shape(expected)}."
    pairs = list(zip(_leaves(answer), _leaves(expected)))
    if not all(_same(*pair, tolerance) for pair in pairs):
        return "Not yet." if isinstance(answer, list) else f"Not yet. {_shown(answer)} is not it."
    has_tolerance = tolerance and pairs and _kind(pairs[0][1]) == "a number"
    if isinstance(answer, list):
        how = f"agree within {tolerance:g}" if has_tolerance else "agree"
        return f"Right. Shape {_shape(answer)}: {len(pairs)} of {len(pairs)} {how}."
    return f"Right. {_shown(answer)} is {f'within {tolerance:g} of the answer' if has_tolerance else 'the answer'}."


def _same(answer, expected, tolerance):
    if isinstance(expected, str):
        return "".join(answer.split()).casefold() == "".join(expected.split()).casefold()
    if isinstance(expected, bool) or math.isinf(expected):  # anything is within a share of infinity
        return answer == expected
    if isinstance(answer, int) and isinstance(expected, int):  # however many digits they have
        return abs(answer - expected) <= tolerance
    return abs(answer - expected) <= tolerance + ROUND_OFF * abs(expected)


def _plain(value):
    """Python's own numbers, words and lists of them, of lists, arrays and tensors; anything else as it is."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple, range)):
        return [_plain(entry) for entry in value]
    try:
        return np.asarray(value).tolist() if hasattr(value, "__array__") else value
    except Exception:  # Keras's symbolic tensors have no numbers, and say so
        return value


def _leaves(plain):
    return [leaf for entry in plain for leaf in _leaves(entry)] if isinstance(plain, list) else [plain]


def _shape(plain):
    """The shape of nested lists; None if their rows differ in length."""
    if not isinstance(plain, list):
        return ()
    inner = {_shape(entry) for entry in plain} or {()}
    return None if len(inner) > 1 or None in inner else (len(plain), *inner.pop())


def _has_none(plain):
    return any(leaf is None for leaf in _leaves(plain))


def _has_nan(plain):
    return any(isinstance(leaf, (float, complex)) and leaf != leaf for leaf in _leaves(plain))


def _kind(value):
    kinds = {bool: "True or False", int: "a number", float: "a number", str: "a word", type(None): "None"}
    if type(value) in kinds:
        return kinds[type(value)]
    return "a function" if inspect.isroutine(value) else f"an object of type {type(value).__name__}"


def _described(plain):
    """In kind what an answer is: never its value."""
    if not isinstance(plain, list):
        return _kind(plain)
    if _shape(plain) is None:
        return "a list with rows of different lengths"
    kinds = {_kind(leaf) for leaf in _leaves(plain)}
    plural = {"a number": "numbers", "a word": "words", "True or False": "True or False"}
    return f"a list or array of {' and '.join(sorted(plural.get(kind, kind) for kind in kinds)) or 'nothing'}"


def _shown(value):
    """A number or a word of the answer, short."""
    if isinstance(value, str):
        return repr(textwrap.shorten(value, 60, placeholder=" ..."))
    return f"{value:.6g}" if isinstance(value, float) else textwrap.shorten(str(value), 60, placeholder="...")
