"""Detail at full size: holes of large pictures filled from the picture's own known pixels."""

from gmsrm_jax.inference.detail.detail import Guide, fill_detail
from gmsrm_jax.inference.detail.transfer import within_surroundings

__all__ = ["Guide", "fill_detail", "within_surroundings"]
