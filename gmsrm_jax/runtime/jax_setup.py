"""What a program sets in JAX before its first computation."""

import sys

import jax

from gmsrm_jax.runtime.files import user_cache

_FOLDER = "jax_compilation_cache_dir"


def set_up_jax(matmul_precision: str, device: str = "auto") -> None:
    """Sets JAX's matmul precision ("default", "high" or "highest"), and keeps compiled programs.

    With the device "cpu", JAX takes hold of no accelerator.
    """
    use_compile_cache()
    jax.config.update("jax_default_matmul_precision", matmul_precision)
    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")


def use_compile_cache() -> str | None:
    """Keeps compiled programs in the user's own cache folder, unless JAX is told of another.

    The folder is for its owner only (0700): whoever can write to it can run code in a program that
    reads it.

    Returns:
        The folder if this call chose it; None if there is one already, or none that can be used,
        which is said.
    """
    if getattr(jax.config, _FOLDER):
        return None
    try:
        folder = user_cache() / "xla"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
    except (OSError, RuntimeError) as error:
        print(f"gmsrm: no compile cache: {error}; every start compiles anew", file=sys.stderr)
        return None
    jax.config.update(_FOLDER, str(folder))
    return str(folder)
