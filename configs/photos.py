r"""The weights photos-128: facades-128 trained further on photographs of any kind, in phases.

Aims at photographs that are not facades, and at fillings that are sharp: the second phase
(methods/sharpening.py) has heads on VGG maps for a discriminator.
Data: facades as facades.py says, and 2,528 photographs of a shorter side of 256 to 288 px (CC0,
CC BY, CC BY-SA, MIT or free for any purpose) in data/photos/train, mixed by the first command
below.
VGG-19: relu1_1, relu2_1, relu3_1 of the original network (CC BY 4.0), in the package.
Length: 12,000 pictures, then 10,800, of which 800 for the heads alone; from half of the way between
the two phases' weights again 10,400, then 5,800. 3:30 h of one CPU core, beside other work. What
ships is 0.65 of the way between the last two: of the shares 0, 0.5, 0.65, 0.75 and 1 the largest
that kept the PSNR of before, on 36 photographs held out for this choice (docs/evaluation.md).

    python tools/mix_pictures.py --out data/mixed facades=data/facades photos=data/photos --times \
        facade=4,aquarium=2,landscapes=4,clothing=3,coco=10,flickrcars=10,budgie=10
    python -m gmsrm_jax.main --config=configs/photos.py --workdir=runs/photos-soft \
        --config.sharpening.length_kimg=0
    python -m gmsrm_jax.main --config=configs/photos.py --config.inpainting.begin_from= \
        --config.sharpening.begin_from=runs/photos-soft
    python tools/blend_networks.py runs/photos-soft runs/photos --output runs/photos-half
    gmsrm export --checkpoint runs/photos-half --output runs/photos-then --dtype float16
    python -m gmsrm_jax.main --config=configs/photos.py --workdir=runs/photos-more \
        --config.inpainting.begin_from=runs/photos-then --config.inpainting.length_kimg=10.4 \
        --config.inpainting.query_rate=0.4 --config.inpainting.ema=0.998 \
        --config.inpainting.perceptual_weight=2.5 --config.sharpening.length_kimg=0
    python -m gmsrm_jax.main --config=configs/photos.py --workdir=runs/photos-sharper \
        --config.inpainting.begin_from= --config.sharpening.begin_from=runs/photos-more \
        --config.sharpening.length_kimg=5 --config.sharpening.crop=96 \
        --config.sharpening.hole_weight=10 --config.sharpening.perceptual_weight=2.5 \
        --config.sharpening.learning_rate=3e-4
    python tools/blend_networks.py runs/photos-more runs/photos-sharper --share 0.65 \
        --output runs/photos-last
    gmsrm export --checkpoint runs/photos-last --output runs/photos-128 --dtype float16
"""

from ml_collections import ConfigDict

from gmsrm_jax.config import apply_argument, base_config
from gmsrm_jax.methods.gm_srm.fields import FIRST_MODEL, VGG_LAYERS


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the experiment's config; the argument is a method, a variant or "runlocal"."""
    config = base_config()
    config.name = "photos"
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

    config.masks.train = "pic:0.4,pic_regular:0.2,lama_thin:0.2,free_form:0.2"

    config.data.train = "data/mixed"
    config.data.note = "Mix facades and photographs into data/mixed, see configs/photos.py"
    config.data.validation_bounds = (36, 36)
    config.data.shorter_side = 1.0
    config.data.scale = (1.0, 2.6)  # the photographs' own size, at most
    config.data.num_threads = 1

    config.inpainting.begin_from = "facades-128"
    config.inpainting.length_kimg = 12.0
    config.inpainting.learning_rate = 5e-4
    config.inpainting.schedule = "cosine"
    config.inpainting.query_rate = 0.1
    config.inpainting.ema = 0.995
    config.inpainting.train_noise_strength = True
    config.inpainting.reconstruction_norm = "region"
    config.inpainting.perceptual_weight = 1.5
    config.inpainting.perceptual_layers = VGG_LAYERS[:3]
    config.inpainting.perceptual_crop = 64
    config.inpainting.adversarial_weight = 0.0  # the second phase brings the discriminator
    config.inpainting.vgg = "bundled"
    config.inpainting.discriminator_features = (32, 64, 128, 128)
    config.inpainting.validate_every = 250
    config.inpainting.save_every = 125

    config.sharpening.length_kimg = 10.0
    config.sharpening.discriminator = "features"
    config.sharpening.discriminator_features = (64, 64, 128, 128)
    config.sharpening.head_start = 100
    config.sharpening.crop = 64
    config.sharpening.ema = 0.995
    config.sharpening.validate_every = 250
    config.sharpening.save_every = 125

    config.evaluation.dataset = "facades"
    config.evaluation.baselines = ("telea", "ns", "smooth", "mean")
    config.evaluation.perceptual = ("vgg_hole",)
    return apply_argument(config, argument)
