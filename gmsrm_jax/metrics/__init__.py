"""What fillings are scored by: the paper's four measures here, others in modules of their own.

`extra` has L1, the Gaussian SSIM and the hole's own measures; `perceptual` LPIPS and the VGG-19
distance of the hole; `texture` whether the hole has detail; `distribution` FID, P-IDS and U-IDS.
"""

from gmsrm_jax.metrics.paper import DEFINITIONS, METRICS, Definition, lmse, ncc, psnr, ssim

__all__ = ["DEFINITIONS", "METRICS", "Definition", "lmse", "ncc", "psnr", "ssim"]
