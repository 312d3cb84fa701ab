"""The config of a run: typed fields, the argument of a card, and the config of a workdir."""

from gmsrm_jax.config.checks import check_config
from gmsrm_jax.config.fields import apply_argument, base_config

__all__ = ["apply_argument", "base_config", "check_config"]
