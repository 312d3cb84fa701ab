r"""Your own pictures at 128 px, with settings for a few hundred to a few thousand of them.

Any folder of pictures will do, sub-folders included. With sub-folders train, val and test these are
the splits; otherwise a tenth of the pictures is kept for validation and a twentieth for the test,
at least 4 each, by a hash of their names, or a second folder is named for the test. `gmsrm data
DIR` looks at them first.
Perceptual features are the bundled ones, up to relu3_1, so nothing has to be fetched. Stage 1
augments, because a discriminator memorises a small set long before it has seen a million pictures.
Time: stage 1 sees 400,000 pictures, stage 2 each of yours 100 times; meant for a GPU. No score is
known in advance. For a first try, and on a CPU, finetune.py.

    python -m gmsrm_jax.main --config=configs/folder.py --config.data.train=DIR
    python -m gmsrm_jax.main --config=configs/folder.py:runlocal    # whether it runs, at 32 px
"""

from ml_collections import ConfigDict

from gmsrm_jax.config import apply_argument, base_config
from gmsrm_jax.methods.gm_srm.fields import VGG_LAYERS


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the experiment's config; the argument is a method, a variant or "runlocal"."""
    config = base_config()
    config.name = "folder"
    config.image_size = 128
    config.data.note = "Give your own folder: --config.data.train=DIR"
    config.model.channel_base = 8192
    config.model.channel_max = 256
    config.model.fusion_rescale = True
    config.memory.length_kimg = 400.0
    config.memory.augment = "ada"
    config.memory.reconstruction_weight = 1.0
    config.inpainting.perceptual_layers = VGG_LAYERS[:3]
    config.inpainting.vgg = "bundled"
    return apply_argument(config, argument)
