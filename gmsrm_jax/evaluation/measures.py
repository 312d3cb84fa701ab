"""All measures of an evaluation, each applied to the images that it is meant for."""

import itertools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from gmsrm_jax.metrics import DEFINITIONS, METRICS, Definition, distribution, perceptual
from gmsrm_jax.metrics.distribution import fid, inception_discriminative_scores
from gmsrm_jax.metrics.extra import EXTRA_DEFINITIONS, EXTRA_METRICS, HOLE_METRICS
from gmsrm_jax.metrics.inception import FEATURES, InceptionWeights, inception_features
from gmsrm_jax.metrics.lpips import LpipsWeights
from gmsrm_jax.metrics.perceptual import TEXTURE, VGG_HOLE, lpips, texture, vgg_hole
from gmsrm_jax.nn.vgg import VggWeights

_INCEPTION_BATCH = 8  # pictures; at 299 px the activations of more leave a CPU's caches


class Judge:
    """Scores filled pictures.

    Every kind of image gets the paper's four measures; the composite, of which tables are made,
    gets all others too.
    """

    def __init__(
        self,
        lpips_weights: Mapping[str, LpipsWeights] | None = None,
        inception_weights: InceptionWeights | None = None,
        vgg_weights: VggWeights | None = None,
    ) -> None:
        """Prepares the measures.

        Args:
            lpips_weights: by name of the measure, lpips_vgg or lpips_alex.
            inception_weights: None leaves FID, P-IDS and U-IDS out.
            vgg_weights: None leaves the VGG distance and the texture mismatch in the hole out.
        """
        self._lpips = dict(lpips_weights or {})
        self._inception = inception_weights
        self._vgg = vgg_weights

    @property
    def definitions(self) -> dict[str, Definition]:
        """What is measured, by name."""
        names = [*self._lpips, *((VGG_HOLE, TEXTURE) if self._vgg is not None else ())]
        used = DEFINITIONS | EXTRA_DEFINITIONS
        used |= {name: perceptual.DEFINITIONS[name] for name in names}
        return used | (distribution.DEFINITIONS if self.compares_sets else {})

    @property
    def compares_sets(self) -> bool:
        """Whether features are taken, for measures of a whole set of pictures."""
        return self._inception is not None

    def score(
        self, kinds: Mapping[str, np.ndarray], image: np.ndarray, mask: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Scores filled pictures.

        Args:
            kinds: images of `IMAGE_KINDS`, [N, S, S, 3] in 0..255, the composite among them.
            image: the truth, uint8 [N, S, S, 3].
            mask: uint8 [N, S, S, 1], 1 in the hole.

        Returns:
            KIND/METRIC to [N], NaN where a measure is undefined.
        """
        composite = kinds["composite"]
        predictions = jnp.stack([images.astype(np.float32) for images in kinds.values()])
        every = _paper_measures(predictions, np.broadcast_to(image, predictions.shape))
        scores = {
            f"{kind}/{name}": every[name][place]
            for place, kind in enumerate(kinds)
            for name in METRICS
        }
        found = _other_measures(composite, image, mask)
        others = {name: found[name] for name in EXTRA_DEFINITIONS}  # jit sorts them
        others |= {name: lpips(own, composite, image) for name, own in self._lpips.items()}
        if self._vgg is not None:
            others[VGG_HOLE] = vgg_hole(self._vgg, composite, image, mask)
            others[TEXTURE] = texture(self._vgg, composite, image, mask)
        scores |= {f"composite/{name}": values for name, values in others.items()}
        return {name: np.asarray(values, np.float64) for name, values in scores.items()}

    def diversity(self, samples: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
        """Mean difference of the pairs of several samples.

        Args:
            samples: composites, uint8 [K, N, S, S, 3], K at least 2.
            mask: uint8 [N, S, S, 1].

        Returns:
            METRIC to [N]: l1 over the hole in 0..255, and LPIPS and the VGG distance where there
            are weights.
        """
        area = np.maximum(3.0 * mask.sum((1, 2, 3)), 1.0)
        apart: dict[str, list[np.ndarray]] = {}
        for a, b in itertools.combinations(samples, 2):
            found = {"l1": np.abs(a.astype(np.float64) - b).sum((1, 2, 3)) / area}
            found |= {name: np.asarray(lpips(own, a, b)) for name, own in self._lpips.items()}
            if self._vgg is not None:
                found[VGG_HOLE] = np.asarray(vgg_hole(self._vgg, a, b, mask))
            for name, values in found.items():
                apart.setdefault(name, []).append(values)
        return {name: np.mean(values, 0) for name, values in apart.items()}

    def features(self, images: np.ndarray) -> np.ndarray:
        """Inception features of uint8 images [N, S, S, 3], float32 [N, 2048]."""
        if self._inception is None:
            return np.zeros((len(images), 0), np.float32)
        if not len(images):
            return np.zeros((0, FEATURES), np.float32)
        starts = range(0, len(images), _INCEPTION_BATCH)
        parts = [images[start : start + _INCEPTION_BATCH] for start in starts]
        return np.concatenate([inception_features(self._inception, part) for part in parts])

    def compare_sets(self, filled: np.ndarray, real: np.ndarray) -> dict[str, float | int | str]:
        """FID, P-IDS and U-IDS of features [N, 2048] each, paired.

        Returns:
            fid, p_ids and u_ids, the number of pictures, and a note on what limits their meaning.
        """
        distance = fid(filled, real)
        scores = inception_discriminative_scores(filled, real)
        return {
            "fid": distance.fid,
            "p_ids": scores.p_ids,
            "u_ids": scores.u_ids,
            "count": len(filled),
            "note": "; ".join(filter(None, (distance.warning, scores.warning))),
        }


@jax.jit
def _paper_measures(predictions: jax.Array, targets: jax.Array) -> dict[str, jax.Array]:
    return {name: metric(predictions, targets) for name, metric in METRICS.items()}


@jax.jit
def _other_measures(
    prediction: jax.Array, target: jax.Array, mask: jax.Array
) -> dict[str, jax.Array]:
    plain = {name: metric(prediction, target) for name, metric in EXTRA_METRICS.items()}
    return plain | {name: metric(prediction, target, mask) for name, metric in HOLE_METRICS.items()}
