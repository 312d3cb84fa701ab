"""Two categories of Places2 at 256 px: the paper's third benchmark.

Aims at Table I (irregular holes: 27.09 / 24.93 / 22.91 / 20.60 dB PSNR in 20-30 … 50-60 %) and
Table II (centre holes: 23.33 dB at 25 %, 19.51 dB at 50 %).
Data: place 74,000 training and 3,000 test pictures of two categories in data/places2/train and
data/places2/test, or prepare tfds:gmsrm_places2/butte+canyon (see README.md) and give it as
--config.data.train; the paper does not name the categories.
VGG-19: weights/vgg19.safetensors, made by `gmsrm convert vgg19` (see README.md).
Length: 5,000 kimg of stage 1, then 100 epochs (about 924,000 steps) of stage 2. Not run to the end
yet, so neither time nor score is known.

    python -m gmsrm_jax.main --config=configs/places2.py
    python -m gmsrm_jax.main --config=configs/places2.py:gm_bm     # a variant of Table IV
    python -m gmsrm_jax.main --config=configs/places2.py:runlocal  # a minute or two, no data set
"""

from ml_collections import ConfigDict

from gmsrm_jax.config import apply_argument, base_config


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the experiment's config; the argument is a method, a variant or "runlocal"."""
    config = base_config()
    config.name = "places2"
    config.data.train = "data/places2"
    config.data.note = (
        "Place pictures of two Places2 categories: 74,000 in data/places2/train, 3,000 in "
        "data/places2/test"
    )
    config.evaluation.dataset = "Places2"
    return apply_argument(config, argument)
