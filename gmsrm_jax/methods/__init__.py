"""Inpainting methods behind one interface, and the dict that names them."""
