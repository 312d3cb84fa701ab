"""CelebA-HQ at 256 px: the paper's second benchmark.

Aims at Table I (irregular holes: 30.23 / 27.91 / 25.51 / 22.70 dB PSNR in 20-30 … 50-60 %),
Table II (centre holes: 26.97 dB at 25 %, 21.75 dB at 50 %) and, with the four variants, Table IV.
Data: place 27,000 training and 3,000 test faces of 256 px in data/celebahq/train and
data/celebahq/test, or prepare tfds:gmsrm_celeba_hq (see README.md) and give it as
--config.data.train; the paper's lists are not published. Test pictures are used at 256 px directly.
VGG-19: weights/vgg19.safetensors, made by `gmsrm convert vgg19` (see README.md).
Length: 5,000 kimg of stage 1, then 100 epochs (about 336,000 steps) of stage 2. Not run to the end
yet, so neither time nor score is known.

    python -m gmsrm_jax.main --config=configs/celebahq.py
    python -m gmsrm_jax.main --config=configs/celebahq.py:base     # a variant of Table IV
    python -m gmsrm_jax.main --config=configs/celebahq.py:runlocal # a minute or two, no data set
"""

from ml_collections import ConfigDict

from gmsrm_jax.config import apply_argument, base_config


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the experiment's config; the argument is a method, a variant or "runlocal"."""
    config = base_config()
    config.name = "celebahq"
    config.data.train = "data/celebahq"
    config.data.note = (
        "Place CelebA-HQ pictures of 256 px: 27,000 in data/celebahq/train, 3,000 in "
        "data/celebahq/test"
    )
    config.data.test_resize = "direct"
    config.evaluation.dataset = "CelebA-HQ256"
    return apply_argument(config, argument)
