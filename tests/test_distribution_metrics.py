"""FID against SciPy and closed forms; P-IDS and U-IDS against their definition."""

import sys

import numpy as np
import pytest
import scipy.linalg
import scipy.optimize

from gmsrm_jax.metrics.distribution import (
    DEFINITIONS,
    fid,
    frechet_distance,
    inception_discriminative_scores,
)
from gmsrm_jax.runtime.errors import UserError


def features(seed, count, dimension, shift=0.0, scale=1.0):
    """Correlated features, float32 [count, dimension], with variances over four decades."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(dimension, dimension)) / np.sqrt(dimension)
    decay = np.logspace(0, -2, dimension)
    return (scale * rng.normal(size=(count, dimension)) * decay @ mixing + shift).astype(np.float32)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((2, 4)), r"\[N, 3\]"),
        (np.zeros(3), r"\[N, 3\]"),
        (np.array([[1, 2, np.nan]]), "NaN"),
        (np.array([[1, 2, np.inf]]), "infinity"),
    ],
)
def test_wrong_features_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        fid(features(0, 10, 3), values)


def test_one_picture_has_no_covariance():
    with pytest.raises(UserError, match="at least 2 pictures in each set, found 1"):
        fid(np.ones((1, 3)), features(0, 10, 3))


def reference_distance(mean_a, covariance_a, mean_b, covariance_b):
    """The definition with SciPy's root of the matrix product, which is not symmetric."""
    root = scipy.linalg.sqrtm(covariance_a @ covariance_b)
    shift = ((mean_a - mean_b) ** 2).sum()
    return shift + np.trace(covariance_a + covariance_b - 2 * root.real)


@pytest.mark.parametrize("dimension", [1, 2, 40, 100])
def test_distance_is_scipys(dimension):
    a = features(1, 10 * dimension + 20, dimension)
    b = features(2, 12 * dimension + 20, dimension, shift=0.1, scale=1.3)
    moments = []
    for values in (a.astype(np.float64), b.astype(np.float64)):
        moments += [values.mean(0), np.cov(values, rowvar=False).reshape(dimension, dimension)]
    expected = reference_distance(*moments)
    assert expected > 0.01
    assert frechet_distance(*moments) == pytest.approx(expected, rel=1e-6)
    assert frechet_distance(*moments[2:], *moments[:2]) == pytest.approx(expected, rel=1e-6)
    assert fid(a, b).fid == pytest.approx(expected, rel=1e-6)


def test_distance_of_independent_coordinates_is_the_closed_form():
    """Diagonal covariances: sum of (μ₁ - μ₂)² + (σ₁ - σ₂)², also for a σ of 0."""
    mean_a, mean_b = np.array([0.0, 1.0, -2.0, 5.0]), np.array([0.5, 1.0, 2.0, 5.0])
    sigma_a, sigma_b = np.array([1.0, 2.0, 0.0, 1e-3]), np.array([3.0, 2.0, 4.0, 0.0])
    expected = ((mean_a - mean_b) ** 2 + (sigma_a - sigma_b) ** 2).sum()
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    for basis in (np.eye(4), turn):
        covariances = (basis * sigma_a**2) @ basis.T, (basis * sigma_b**2) @ basis.T
        found = frechet_distance(basis @ mean_a, covariances[0], basis @ mean_b, covariances[1])
        assert found == pytest.approx(expected, rel=1e-9)


def test_distance_of_few_pictures_is_exact():
    """With X the centred features, tr (S₁S₂)^½ is the sum of X₁X₂ᵀ's singular values, scaled."""
    a, b = features(1, 12, 60), features(2, 20, 60, shift=0.05)
    centred = [x.astype(np.float64) - x.mean(0, dtype=np.float64) for x in (a, b)]
    overlap = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    expected = (
        ((a.mean(0, dtype=np.float64) - b.mean(0, dtype=np.float64)) ** 2).sum()
        + (centred[0] ** 2).sum() / 11
        + (centred[1] ** 2).sum() / 19
        - 2 * overlap / np.sqrt(11 * 19)
    )
    found = fid(a, b)
    assert found.fid == pytest.approx(expected, rel=1e-9)
    assert found.warning.startswith("12 pictures in a set and 60 features")


def test_distance_to_itself_is_0_and_enough_pictures_give_no_warning():
    values = features(1, 51, 50)
    found = fid(values, values[::-1])
    assert found == (pytest.approx(0.0, abs=1e-9), "") and found.fid >= 0
    assert fid(values, values[:50]).warning
    constant = np.ones((10, 50))
    assert fid(constant, constant).fid == 0.0


class Plain:
    """The scores' definition, with the support vector machine's optimum found by SciPy.

    Minimises |w|²/2 + b²/2 + sum of max(0, 1 - y (wx + b))², which is strictly convex.
    """

    def __init__(self, predictions, targets):
        x = np.concatenate([targets, predictions]).astype(np.float64)
        x = np.concatenate([x, np.ones((len(x), 1))], axis=1)
        y = np.repeat([1.0, -1.0], len(targets))

        def objective(w):
            slack = np.maximum(1 - y * (x @ w), 0)
            return w @ w / 2 + slack @ slack, w - 2 * x.T @ (y * slack)

        start = np.zeros(x.shape[1])
        options = {"maxiter": 5000, "ftol": 1e-15, "gtol": 1e-9}
        found = scipy.optimize.minimize(
            objective, start, jac=True, method="L-BFGS-B", options=options
        )
        real, fake = np.split(x @ found.x, 2)
        self.p_ids = np.mean(fake > real)
        self.u_ids = (np.mean(real <= 0) + np.mean(fake > 0)) / 2
        self.closest = min(np.abs(real).min(), np.abs(fake).min(), np.abs(fake - real).min())


@pytest.mark.parametrize(("shift", "low", "high"), [(0.0, 0.3, 0.5), (0.3, 0.1, 0.4)])
def test_scores_are_those_of_the_definition(shift, low, high):
    rng = np.random.default_rng(3)
    targets = rng.normal(size=(300, 8)).astype(np.float32)
    predictions = (rng.normal(size=(300, 8)) + shift).astype(np.float32)
    expected = Plain(predictions, targets)
    assert expected.closest > 1e-6  # so that the solver's tolerance decides nothing
    assert low < expected.p_ids < high and low < expected.u_ids < high
    found = inception_discriminative_scores(predictions, targets)
    # LinearSVC stops at a tolerance of 1e-4; one picture of 300 may fall on the other side.
    assert found.p_ids == pytest.approx(expected.p_ids, abs=1.01 / 300)
    assert found.u_ids == pytest.approx(expected.u_ids, abs=1.01 / 300)
    assert found.warning == ""


def test_p_ids_compares_each_picture_with_its_own_target():
    """Pictures differ far more than predictions from targets, so pairs decide, and order."""
    rng = np.random.default_rng(4)
    targets = rng.normal(size=(400, 3))
    predictions = targets + np.array([0.1, 0.0, 0.0])
    found = inception_discriminative_scores(predictions, targets)
    assert found.p_ids == 0.0 and found.u_ids > 0.4
    shuffled = inception_discriminative_scores(predictions[::-1], targets)
    assert shuffled.p_ids > 0.3 and shuffled.u_ids == found.u_ids


def test_separable_sets_score_0_and_equal_sets_the_most():
    rng = np.random.default_rng(5)
    targets = rng.normal(size=(200, 4))
    assert inception_discriminative_scores(targets + 20.0, targets)[:2] == (0.0, 0.0)
    same = inception_discriminative_scores(targets, targets)
    assert same.p_ids == 0.0 and same.u_ids == pytest.approx(0.5)  # no prediction beats itself


def test_too_few_pictures_are_a_warning():
    rng = np.random.default_rng(6)
    found = inception_discriminative_scores(rng.normal(size=(20, 64)), rng.normal(size=(20, 64)))
    assert found[:2] == (0.0, 0.0)  # although both sets have one distribution
    assert found.warning.startswith("20 pictures and 64 features")


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    for name in ("sklearn", "sklearn.svm", "sklearn.exceptions"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"need scikit-learn .*pip install 'gmsrm-jax\[eval\]'"):
        inception_discriminative_scores(np.zeros((2, 3)), np.ones((2, 3)))


def test_scores_refuse_what_are_no_pairs():
    with pytest.raises(ValueError, match=r"two arrays \[N, D\], got \(2, 3\) and \(3, 3\)"):
        inception_discriminative_scores(np.zeros((2, 3)), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="NaN"):
        inception_discriminative_scores(np.full((2, 3), np.nan), np.zeros((2, 3)))
    with pytest.raises(UserError, match="found none"):
        inception_discriminative_scores(np.zeros((0, 3)), np.zeros((0, 3)))


def test_every_metric_is_defined():
    assert set(DEFINITIONS) == {"fid", "p_ids", "u_ids"}
    assert [DEFINITIONS[name].better for name in DEFINITIONS] == ["lower", "higher", "higher"]
