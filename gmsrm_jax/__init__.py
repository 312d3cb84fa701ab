"""GM-SRM in JAX: a generative memory that helps an encoder-decoder to fill holes in pictures."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gmsrm_jax.inference.inpainter import Inpainter as Inpainter

__version__ = "0.1.0"
__all__ = ["Inpainter"]


def __getattr__(name: str) -> Any:
    """Imports `Inpainter` when it is first asked for: JAX takes a second to import."""
    if name != "Inpainter":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from gmsrm_jax.inference.inpainter import Inpainter

    return Inpainter
