"""Inpainting methods behind one interface, and the dict that names them."""

from gmsrm_jax.methods.base import Method
from gmsrm_jax.methods.edgeconnect.method import EDGECONNECT
from gmsrm_jax.methods.pconv import PCONV

METHODS: dict[str, Method] = {"pconv": PCONV, "edgeconnect": EDGECONNECT}
