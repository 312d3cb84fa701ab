"""What a program sets in JAX before its first computation."""

import os
import sys

import jax

from gmsrm_jax.runtime.files import user_cache


def set_up_jax(matmul_precision: str, device: str = "auto") -> None:
    """Sets JAX's matmul precision ("default", "high" or "highest"), and keeps compiled programs.

    With the device "cpu", JAX takes hold of no accelerator.
    """
    _use_compile_cache()
    jax.config.update("jax_default_matmul_precision", matmul_precision)
    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")


def _use_compile_cache() -> None:
    """Keeps compiled programs in the user's own cache folder, unless JAX is told of another.

    The folder is for its owner only (0700): whoever can write to it can run code in a program that
    reads it.
    """
    if os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        return
    folder = user_cache() / "xla"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
    except OSError as error:
        print(f"gmsrm: no compile cache: {error}; every start compiles anew", file=sys.stderr)
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
