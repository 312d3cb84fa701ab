"""FID, P-IDS and U-IDS: how far two sets of pictures lie apart in Inception's features.

The features come from `metrics.inception.inception_features`. All here runs on the host in float64
with NumPy; P-IDS and U-IDS also need scikit-learn, the extra `eval`.
"""

import warnings
from typing import NamedTuple

import numpy as np

from gmsrm_jax.metrics.measure import Definition, define
from gmsrm_jax.runtime.errors import UserError


class Fid(NamedTuple):
    """The distance, and what limits its meaning, empty if nothing does."""

    fid: float
    warning: str


class Ids(NamedTuple):
    """Both scores in 0..1, and what limits their meaning, empty if nothing does."""

    p_ids: float
    u_ids: float
    warning: str


def frechet_distance(
    mean_a: np.ndarray, covariance_a: np.ndarray, mean_b: np.ndarray, covariance_b: np.ndarray
) -> float:
    """Squared Fréchet (2-Wasserstein) distance of two normal distributions.

    |μ₁ - μ₂|² + tr S₁ + tr S₂ - 2 tr (S₁S₂)^½ (Dowson and Landau 1982). The last trace is that of
    (S₁^½ S₂ S₁^½)^½, the sum of the singular values of S₁^½ S₂^½. So only roots of symmetric
    matrices are taken, singular covariances need no offset, and small singular values are not
    squared away before they are added.

    Args:
        mean_a: [D].
        covariance_a: [D, D], symmetric and not negative.
        mean_b: [D].
        covariance_b: [D, D], symmetric and not negative.

    Returns:
        The distance, at least 0.
    """
    product = _root(covariance_a).T @ _root(covariance_b)
    overlap = np.linalg.svd(product, compute_uv=False).sum()
    difference = np.asarray(mean_a, np.float64) - mean_b
    distance = (
        difference @ difference + np.trace(covariance_a) + np.trace(covariance_b) - 2.0 * overlap
    )
    return max(float(distance), 0.0)


def fid(features_a: np.ndarray, features_b: np.ndarray) -> Fid:
    """Fréchet inception distance.

    Fréchet distance of Heusel et al. (2017) between the normal distributions with the means and
    sample covariances of the two sets' 2,048 Inception features (network of 2015-12-05; images
    resized bilinearly to 299 px without smoothing and scaled to [-1, 1], as in pytorch-fid). Biased
    upwards for few pictures.

    The bias is about a constant over the number of pictures, so only figures of equal numbers
    compare; papers take 10,000 to 50,000. With no more pictures than features a covariance is
    singular, which the warning says.

    Args:
        features_a: of one set, [N, D].
        features_b: of the other, [M, D]; the order does not matter.

    Raises:
        UserError: a set has fewer than two pictures.
        ValueError: other shapes, NaN or infinity.
    """
    moments: list[np.ndarray] = []
    for features in (features_a, features_b):
        checked = _checked(features, features_a.shape[-1])
        if len(checked) < 2:
            raise UserError(
                f"FID needs at least 2 pictures in each set, found {len(checked)}; give more"
            )
        moments += [checked.mean(0), np.atleast_2d(np.cov(checked, rowvar=False))]
    fewest, dimension = min(len(features_a), len(features_b)), features_a.shape[1]
    warning = ""
    if fewest <= dimension:
        warning = (
            f"{fewest:,} pictures in a set and {dimension:,} features: the covariance is singular"
            " and FID strongly biased; compare it only with figures of the same pictures"
        )
    return Fid(frechet_distance(*moments), warning)


def inception_discriminative_scores(predictions: np.ndarray, targets: np.ndarray) -> Ids:
    """P-IDS and U-IDS, see `DEFINITIONS`.

    The classifier is the reference's, scikit-learn's LinearSVC(dual=False) with its defaults: L2
    penalty, squared hinge loss, C = 1, fitted to the features that it is then asked about. A
    linear classifier separates almost any 2N points of D features while N <= D (Cover 1965); both
    scores are then near 0 whatever the pictures are, which the warning says. Papers take 5,000
    pictures and more.

    Args:
        predictions: features [N, D] of the predictions.
        targets: features [N, D] of the real pictures, in the same order.

    Raises:
        ValueError: the shapes differ or are not [N, D]; NaN or infinity.
        UserError: no pictures, or scikit-learn is not installed.
    """
    if predictions.shape != targets.shape or predictions.ndim != 2:
        raise ValueError(
            f"features must be two arrays [N, D], got {predictions.shape} and {targets.shape}"
        )
    count, dimension = predictions.shape
    if not count:
        raise UserError("P-IDS and U-IDS need pictures, found none; give at least one")
    predictions, targets = (_checked(each, dimension) for each in (predictions, targets))
    try:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.svm import LinearSVC
    except ImportError as error:
        raise UserError(
            f"P-IDS and U-IDS need scikit-learn ({error}): pip install 'gmsrm-jax[eval]'"
        ) from error
    machine = LinearSVC(dual=False)
    features = np.concatenate([targets, predictions])
    real = np.repeat([1, 0], count)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # part of the result below
        machine.fit(features, real)
    remarks = []
    if count <= dimension:
        remarks.append(
            f"{count:,} pictures and {dimension:,} features: a linear classifier separates nearly"
            " any two sets so small, so scores near 0 say nothing"
        )
    if machine.n_iter_ >= machine.max_iter:
        remarks.append(f"the classifier did not converge in {machine.max_iter} iterations")
    return Ids(
        p_ids=float(
            np.mean(machine.decision_function(predictions) > machine.decision_function(targets))
        ),
        u_ids=float(1.0 - machine.score(features, real)),
        warning="; ".join(remarks),
    )


def _checked(features: np.ndarray, dimension: int) -> np.ndarray:
    features = np.asarray(features, np.float64)
    if features.ndim != 2 or features.shape[1] != dimension:
        raise ValueError(f"features must be [N, {dimension}], got {features.shape}")
    if not np.isfinite(features).all():
        raise ValueError("features hold NaN or infinity")
    return features


def _root(covariance: np.ndarray) -> np.ndarray:
    """R [D, rank] with R Rᵀ = covariance; eigenvalues within rounding of 0 count as 0."""
    values, vectors = np.linalg.eigh(np.asarray(covariance, np.float64))
    kept = values > values[-1] * values.size * np.finfo(np.float64).eps
    return vectors[:, kept] * np.sqrt(values[kept])


DEFINITIONS = {
    "fid": define(fid, "FID", "1", "lower"),
    "p_ids": Definition(
        "P-IDS",
        "Paired inception discriminative score of Zhao et al. (2021): the share of pictures whose "
        "prediction a linear support vector machine, fitted to tell both sets apart by their "
        "Inception features, takes for more real than its own target.",
        "1",
        "higher",
    ),
    "u_ids": Definition(
        "U-IDS",
        "Unpaired inception discriminative score of Zhao et al. (2021): the share of pictures of "
        "both sets that the same support vector machine takes for the wrong set.",
        "1",
        "higher",
    ),
}
