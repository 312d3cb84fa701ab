"""Opens the training data that a config names.

`pipeline.TfData` reads picture files with tf.data and draws masks as it goes; `arrays.ArrayData`
reads an array file and a mask bank without TensorFlow.
"""

from ml_collections import ConfigDict

from gmsrm_jax.data.splits import split_pictures
from gmsrm_jax.data.training_data import TrainingData


def open_data(config: ConfigDict) -> TrainingData:
    """Opens config.data.train with config.data.pipeline.

    Raises:
        UserError: the pictures, the masks or a field cannot be used; names it and the cure.
    """
    if config.data.pipeline == "arrays":
        from gmsrm_jax.data.arrays import ArrayData

        return ArrayData(config, split_pictures(config))
    from gmsrm_jax.data.pipeline import TfData

    return TfData(config, split_pictures(config))
