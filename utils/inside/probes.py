"""Linear probes: what a linear model can read off the outputs of a layer."""

import typing

import numpy as np
from scipy import stats
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ..checks import as_array, integer, one_of
from ..quality import mean_and_interval

FOLDS = 3


class Probe(typing.NamedTuple):
    """How well a probe reads the test images: a score, its 95 % interval, and the number of test images."""

    score: float
    low: float
    high: float
    n: int


def linear_probe(
    features, targets, test_features, test_targets, kind="class", seed=0, *, pool=None, period=360, shuffled=False
):
    """Fit a linear model to the outputs of a layer, and measure on other images what it reads off them: a `Probe`.

    Alain and Bengio (2016, arXiv:1610.01644). Features are standardized, and the strength of the penalty, on the square
    of the weights, is chosen by cross-validation among the training images alone.

    - "class": logistic regression; the accuracy, with Wilson's interval.
    - "number": ridge regression; R^2, which is 1 for perfect and 0 for guessing the mean of the test targets, with a
      bootstrap interval.
    - "angle": ridge regression of cosine and sine; the mean angular error in the unit of the period, with a bootstrap
      interval.

    The interval says how far the score would vary with other test images, the probe being what it is. A guess has the
    accuracy of the most frequent class, the R^2 0, and the angular error of a quarter of the period if the targets lie
    all around the circle; measure it with `shuffled`.

    Args:
        features, test_features: `[n, ...]`, outputs of a layer for two sets of images.
        targets, test_targets: `[n]`, what is to be read off: labels or numbers.
        seed: of the folds of the cross-validation, the bootstrap, and the shuffling.
        pool: "mean" for the mean over all places in place of the outputs at each.
        period: after how much an angle is the same again.
        shuffled: the control: training targets in random order, so that there is nothing to learn.

    Raises:
        ValueError: features and targets do not fit, or are not finite; there are too few images; a class of the test
            images is not among the training images.
    """
    one_of(kind, "kind of target", ("class", "number", "angle"))
    if pool is not None:
        one_of(pool, "pool", ("mean",))
    X, y = _checked(features, targets, kind, pool, "training")
    X_test, y_test = _checked(test_features, test_targets, kind, pool, "test")
    if X.shape[1] != X_test.shape[1]:
        raise ValueError(f"Features differ in number. Received: {X.shape[1]} for training, {X_test.shape[1]} for test.")
    generator = np.random.default_rng(seed)
    y = generator.permutation(y) if shuffled else y
    if kind == "class":
        _check_classes(y, y_test)
        right = _fitted(X, y, kind, seed).predict(X_test) == y_test
        return Probe(float(right.mean()), *wilson_interval(right.sum(), len(right)), len(right))
    if kind == "number":
        predicted = _fitted(X, y, kind, seed).predict(X_test)
        return Probe(*_r2_and_interval(y_test, predicted, generator), len(y_test))
    if not (np.isscalar(period) and np.isfinite(period) and period > 0):
        raise ValueError(f"period must be a number above 0. Received: {period!r}.")
    turn = 2 * np.pi / period
    cosine, sine = _fitted(X, np.stack([np.cos(turn * y), np.sin(turn * y)], 1), kind, seed).predict(X_test).T
    error = np.abs((np.arctan2(sine, cosine) / turn - y_test + period / 2) % period - period / 2)
    return Probe(*map(float, mean_and_interval(error, seed=seed)), len(error))


def wilson_interval(successes, n, confidence=0.95):
    """The lower and upper end of the interval of a share, `successes` of n, that Wilson (1927) found.

        (p + z^2 / 2n -+ z sqrt(p (1 - p) / n + z^2 / 4n^2)) / (1 + z^2 / n),  p = successes / n,

    z being the quantile of the normal distribution: doi:10.1080/01621459.1927.10502953. It stays within 0 and 1, and
    has a width where p is 0 or 1.
    """
    n, successes = integer(n, "n"), integer(successes, "successes", 0)
    if successes > n:
        raise ValueError(f"successes cannot be more than n. Received: {successes} of {n}.")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence lies between 0 and 1. Received: {confidence!r}.")
    p, z = successes / n, stats.norm.ppf((1 + confidence) / 2)
    middle, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2))
    low, high = (middle - half) / (1 + z**2 / n), (middle + half) / (1 + z**2 / n)
    # at the ends, round-off would go beyond them
    return (0.0 if successes == 0 else float(low)), (1.0 if successes == n else float(high))


def _fitted(X, y, kind, seed):
    """The pipeline, with the strength of its penalty chosen in folds of the training images."""
    if kind == "class":
        model, folds = LogisticRegression(max_iter=1000), StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
        grid = {"logisticregression__C": np.logspace(-4, 1, 6)}
    else:
        model, folds = Ridge(), KFold(FOLDS, shuffle=True, random_state=seed)
        grid = {"ridge__alpha": np.logspace(5, -1, 7)}
    return GridSearchCV(make_pipeline(StandardScaler(), model), grid, cv=folds).fit(X, y)


def _r2_and_interval(y, predicted, generator):
    def r2(y, predicted, axis=-1):
        spread = ((y - y.mean(axis, keepdims=True)) ** 2).sum(axis)
        return 1 - ((y - predicted) ** 2).sum(axis) / spread

    if y.min() == y.max():
        raise ValueError(f"All test targets are {y[0]}, so that there is no variance to explain.")
    with np.errstate(divide="ignore", invalid="ignore"):
        found = stats.bootstrap(
            (y, predicted), r2, paired=True, n_resamples=2000, batch=100, method="percentile", rng=generator
        )
    if not np.isfinite(found.confidence_interval).all():
        raise ValueError(f"Too few test targets differ for an interval of R^2. Received: {len(y)}. Take more images.")
    return float(r2(y, predicted)), *map(float, found.confidence_interval)


def _checked(features, targets, kind, pool, which):
    features, targets = as_array(features, f"{which} features"), as_array(targets, f"{which} targets")
    if features.ndim < 2 or targets.shape != features.shape[:1]:
        raise ValueError(
            f"Expected: {which} features [n, ...] and targets [n]. Received: {features.shape} and {targets.shape}."
        )
    least = 2 * FOLDS if which == "training" else 2
    if len(features) < least:
        raise ValueError(f"Expected at least {least} {which} images. Received: {len(features)}.")
    labels = ("iubUS", "integers or words")
    for values, name, (kinds, what) in (
        (features, "features", ("iuf", "numbers")),
        (targets, f"targets of kind {kind!r}", labels if kind == "class" else ("iuf", "numbers")),
    ):
        if values.dtype.kind not in kinds:
            raise ValueError(f"The {which} {name} must be {what}. Received: {values.dtype}.")
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError(f"The {which} {name} hold numbers that are not finite.")
    if pool == "mean" and features.ndim > 2:
        features = features.mean(tuple(range(1, features.ndim - 1)))
    targets = targets if kind == "class" else targets.astype(float)
    return features.reshape(len(features), -1), targets


def _check_classes(y, y_test):
    classes, counts = np.unique(y, return_counts=True)
    if len(classes) < 2 or counts.min() < FOLDS:
        raise ValueError(
            f"Expected at least two classes, and {FOLDS} training images of each. Received: "
            f"{dict(zip(classes.tolist(), counts.tolist()))}."
        )
    unknown = np.setdiff1d(y_test, classes)
    if len(unknown):
        raise ValueError(f"Test images are of classes that no training image has: {unknown.tolist()}.")
