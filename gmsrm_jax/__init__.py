"""GM-SRM in JAX: a generative memory that helps an encoder-decoder to fill holes in pictures."""

__version__ = "0.1.0"
