r"""The ablation of Table IV on faces of Japanese picture scrolls at 64 px, on a CPU in hours.

Aims at the order of Table IV (base < gm_bm < gm_csv < gm_srm) in 50 % centre holes.
Data: 5,546 training and 300 test faces of 128 px in data/kaokore128/train and data/kaokore128/val
("KaoKore Dataset" (collected by CODH from multiple organizations), doi:10.20676/00000353,
CC BY-SA 4.0); 120 irregular masks of 512 px, white is the hole, in data/masks.
VGG-19: relu1_1, relu2_1 of the original network (CC BY 4.0), in the package.
Length: stage 1 of 24,000 pictures at 32 px, once, and 24,000 at 64 px for each seed; 30,000 in
stage 2 of each variant. Took 5 core-hours of a CPU, half of that on two. Gave 19.5 to 19.7 dB for
all variants (Telea 18.7 dB): no order that two seeds would establish, see docs/ablation.md.

    python -m gmsrm_jax.main --config=configs/kaokore.py --stage=memory --workdir=runs/kaokore-32 \
        --config.image_size=32 --config.memory.grow_from= --config.memory.length_kimg=24
    gmsrm compare --config configs/kaokore.py --seeds 0,1
"""

from ml_collections import ConfigDict

from gmsrm_jax.config import apply_argument, base_config
from gmsrm_jax.methods.gm_srm.fields import FIRST_MODEL, VGG_LAYERS


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the experiment's config; the argument is a method, a variant or "runlocal"."""
    config = base_config()
    config.name = "kaokore"
    config.image_size = 64
    config.log_every = 50

    config.model.channel_base = 1024
    config.model.channel_max = 128
    config.model.code_dim = 128
    config.model.code_channels = 32
    config.model.update(FIRST_MODEL)
    config.model.stem_skip = True

    config.data.train = "data/kaokore128"
    config.data.note = "Place the faces in data/kaokore128/train and data/kaokore128/val"
    config.data.test_resize = "direct"
    config.data.shorter_side = 1.0
    config.data.scale = (1.0, 1.15)
    config.data.validation_bounds = (96, 96)
    config.data.num_threads = 2

    config.memory.grow_from = "runs/kaokore-32"
    config.memory.code_source = "mapping"
    config.memory.batch_size = 8
    config.memory.length_kimg = 24.0
    config.memory.learning_rate = 2e-3
    config.memory.ema_kimg = 1.0
    config.memory.r1_gamma = 1e-3
    config.memory.path_interval = 16
    config.memory.train_noise_strength = False  # at 0: what it draws comes from the codes alone
    config.memory.validation_samples = 192
    config.memory.validate_every = 500
    config.memory.save_every = 500

    config.inpainting.epochs = 5.5  # 30,000 pictures
    config.inpainting.learning_rate = 1e-3
    config.inpainting.query_rate = 0.1  # at 1 the noise statistics run away
    config.inpainting.ema = 0.995
    config.inpainting.train_noise_strength = True  # from 0, or Eq. 8 would have nothing to steer
    config.inpainting.perceptual_layers = VGG_LAYERS[:2]
    config.inpainting.vgg = "bundled"
    config.inpainting.discriminator_features = (32, 64, 128, 128)
    config.inpainting.validate_every = 500
    config.inpainting.save_every = 250

    config.evaluation.masks = "data/masks"
    config.evaluation.dataset = "KaoKore"
    config.evaluation.baselines = ("telea", "ns", "mean")
    config.evaluation.batch_size = 50
    return apply_argument(config, argument)
