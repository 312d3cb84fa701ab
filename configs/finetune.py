r"""The bundled weights, trained further on pictures of your own, at 128 px.

Any folder of pictures will do, see folder.py. Stage 2 begins with all weights of photos-128, what
`gmsrm inpaint` fills with, and learns your pictures; there is no stage 1, and the memory stays the
one of the facades, so pictures of quite another kind are better trained from the beginning with
folder.py. Discriminator and optimizers begin anew. The network and the losses are those of
facades.py; nearer to the truth on average, its fillings can be softer than those of photos-128,
which a second phase has sharpened (docs/training.md says how to add one).
Of your pictures a tenth is kept for validation and a twentieth for the test, at least 4 each; these
must be ones that photos-128 has not seen either. The evaluation at the end fills the test pictures
with photos-128, too, and says whether the training helped. :runlocal is the usual small network
from nothing.
Time: each picture 40 times, two to three pictures a second on one CPU core. No score is known in
advance; before_after.png in the workdir shows what has changed.

    python -m gmsrm_jax.main --config=configs/finetune.py --config.data.train=DIR
"""

from ml_collections import ConfigDict

from gmsrm_jax.config import apply_argument, base_config
from gmsrm_jax.methods.gm_srm.fields import FIRST_MODEL, VGG_LAYERS


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the experiment's config; the argument is a method, a variant or "runlocal"."""
    config = base_config()
    config.name = "finetune"
    config.image_size = 128
    config.log_every = 10

    config.model.channel_base = 2048
    config.model.channel_max = 128
    config.model.code_dim = 128
    config.model.code_channels = 32
    config.model.update(FIRST_MODEL)
    config.model.stem_skip = True
    config.model.smooth_skip = True
    config.memory.code_source = "mapping"

    config.masks.train = "pic:0.5,lama_thin:0.25,free_form:0.25"

    config.data.note = "Give your own folder: --config.data.train=DIR"

    config.inpainting.begin_from = "photos-128"
    config.inpainting.epochs = 40.0
    config.inpainting.learning_rate = 5e-4
    config.inpainting.query_rate = 0.1
    config.inpainting.ema = 0.995
    config.inpainting.train_noise_strength = True
    config.inpainting.reconstruction_norm = "region"
    config.inpainting.perceptual_weight = 1.5
    config.inpainting.adversarial_weight = 0.05
    config.inpainting.perceptual_layers = VGG_LAYERS[:3]
    config.inpainting.vgg = "bundled"
    config.inpainting.discriminator_features = (32, 64, 128, 128)
    config.inpainting.validate_every = 50
    config.inpainting.save_every = 50

    config.evaluation.baselines = ("smooth", "mean")
    return apply_argument(config, argument)
