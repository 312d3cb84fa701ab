"""Paris StreetView at 256 px: the paper's first benchmark.

Aims at Table I (irregular holes: 29.04 / 26.79 / 24.51 / 22.20 dB PSNR in 20-30 … 50-60 %) and
Table II (centre holes: 25.86 dB at 25 %, 21.41 dB at 50 %).
Data: 14,900 training and 100 test pictures, given out by the authors of Context Encoders on
request; place them in data/paris/train and data/paris/test, or prepare
tfds:gmsrm_paris_streetview (see README.md) and give it as --config.data.train.
VGG-19: weights/vgg19.safetensors, made by `gmsrm convert vgg19` (see README.md).
Length: 5,000 kimg of stage 1, then 100 epochs (185,000 steps) of stage 2. Not run to the end yet,
so neither time nor score is known.

    python -m gmsrm_jax.main --config=configs/paris.py
    python -m gmsrm_jax.main --config=configs/paris.py:gm_csv      # a variant of Table IV
    python -m gmsrm_jax.main --config=configs/paris.py:runlocal    # a minute or two, no data set
"""

from ml_collections import ConfigDict

from gmsrm_jax.config import apply_argument, base_config


def get_config(argument: str | None = None) -> ConfigDict:
    """Returns the experiment's config; the argument is a method, a variant or "runlocal"."""
    config = base_config()
    config.name = "paris"
    config.data.train = "data/paris"
    config.data.note = (
        "Place Paris StreetView (given out by the authors of Context Encoders on request): 14,900 "
        "pictures in data/paris/train, 100 in data/paris/test"
    )
    config.evaluation.dataset = "Paris StreetView"
    return apply_argument(config, argument)
