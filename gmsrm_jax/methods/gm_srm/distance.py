"""How far samples are from real pictures, on VGG-19 features: the rule that chooses a snapshot."""

import jax
import numpy as np

from gmsrm_jax.nn.vgg import VggWeights, features
from gmsrm_jax.runtime.pixels import to_signed

DISTANCE_LAYERS = ("relu1_1", "relu2_1", "relu3_1")
_BATCH = 16


class FeatureDistance:
    """Fréchet distance between diagonal Gaussians of VGG-19 features averaged over pixels.

    For each layer l of relu1_1, relu2_1, relu3_1, with mean m_c and deviation s_c of channel c
    over images, primes for the real pictures:

        d_l = sum_c ((m_c - m'_c)² + (s_c - s'_c)²) / sum_c s'_c²

    The distance is the mean of the d_l: 0 for equal statistics, 1 if samples are off by as much as
    real pictures differ. It is not FID: another network and no covariances, so that a few dozen
    pictures are enough.
    """

    def __init__(self, vgg: VggWeights, images: np.ndarray):
        """Takes the real pictures, uint8 [k, S, S, 3]; they are measured at the first call."""
        self._vgg, self._images = vgg, images
        self._features = jax.jit(
            lambda weights, x: [f.mean((1, 2)) for f in features(weights, x, DISTANCE_LAYERS)]
        )
        self._real: list[tuple[np.ndarray, np.ndarray]] | None = None

    def __call__(self, samples: np.ndarray) -> float:
        """Distance of float images [n, S, S, 3] in [-1, 1] to the real pictures."""
        if self._real is None:
            self._real = self._moments(np.asarray(to_signed(self._images)))
        terms = [
            (np.square(mean - real_mean) + np.square(deviation - real_deviation)).sum()
            / np.square(real_deviation).sum()
            for (mean, deviation), (real_mean, real_deviation) in zip(
                self._moments(np.clip(samples, -1.0, 1.0)), self._real, strict=True
            )
        ]
        return float(np.mean(terms))

    def _moments(self, images: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Mean and deviation over images by layer, in float64, one compiled shape for any count."""
        count = len(images)
        padded = np.concatenate([images, np.repeat(images[:1], -count % _BATCH, axis=0)])
        batches = [
            self._features(self._vgg, padded[i : i + _BATCH]) for i in range(0, len(padded), _BATCH)
        ]
        layers = [
            np.concatenate(parts)[:count].astype(np.float64) for parts in zip(*batches, strict=True)
        ]
        return [(values.mean(0), values.std(0)) for values in layers]
