"""Trained networks as files for others: exported folders, how they are named, fetched and read."""

from gmsrm_jax.networks.folder import Pretrained, save_pretrained
from gmsrm_jax.networks.names import load_pretrained

__all__ = ["Pretrained", "load_pretrained", "save_pretrained"]
