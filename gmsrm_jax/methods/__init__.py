"""Inpainting methods behind one interface, and the dict that names them."""

from gmsrm_jax.methods.base import Method
from gmsrm_jax.methods.edgeconnect.method import EDGECONNECT

METHODS: dict[str, Method] = {method.name: method for method in (EDGECONNECT,)}
