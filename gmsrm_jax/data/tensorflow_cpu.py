"""TensorFlow kept off the accelerators, which belong to JAX: import `tf` from here.

Raises:
    UserError: TensorFlow is not installed; says what runs without it.
"""

from gmsrm_jax.runtime.errors import UserError

try:
    import tensorflow as tf
except ImportError as error:
    raise UserError(
        f"TensorFlow, which draws holes and reads folders, cannot be imported ({error}); pip "
        "install --constraint constraints.txt . in the checkout brings it; docs/data.md says what "
        "trains and evaluates without it"
    ) from error

tf.config.set_visible_devices([], "GPU")
tf.config.set_visible_devices([], "TPU")
# Pictures are made side by side; cutting the work on one of them up costs more than it gains.
tf.config.threading.set_intra_op_parallelism_threads(1)

__all__ = ["tf"]
