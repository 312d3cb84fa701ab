"""What fillings are scored by: the paper's four measures here, others in modules of their own.

`extra` has L1, the Gaussian SSIM and the hole's own measures; `perceptual` LPIPS and distances of
VGG-19's features in the hole; `distribution` FID, P-IDS and U-IDS.
"""

from gmsrm_jax.metrics.measure import Definition
from gmsrm_jax.metrics.paper import DEFINITIONS, METRICS, lmse, ncc, psnr, ssim

__all__ = ["DEFINITIONS", "METRICS", "Definition", "lmse", "ncc", "psnr", "ssim"]
