"""A network between two of one training, weight for weight: softer or sharper, without training.

    python tools/blend_networks.py runs/photos-soft runs/photos --share 0.5 --output runs/photos-128

Every weight of the new folder is (1 − share) of the first network's and share of the second's,
which must have gone on from the first (network interpolation, arXiv 1811.10515). What the second
phase of training (methods/sharpening.py) brings in sharpness and costs in PSNR is so given in part.
"""

import argparse
import pathlib
import sys

import jax

from gmsrm_jax.networks import Pretrained, load_pretrained, save_pretrained
from gmsrm_jax.networks.folder import pretrained
from gmsrm_jax.runtime.errors import UserError, status_of


def blended(first: Pretrained, second: Pretrained, share: float) -> Pretrained:
    """(1 − share) · first + share · second.

    Raises:
        UserError: they are not of one form, or the share is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise UserError(f"--share {share:g}: write a number from 0 to 1")
    if first.config != second.config:
        raise UserError(
            f"{first.source} and {second.source} are networks of other forms; name two of one "
            "training"
        )
    variables = jax.tree.map(
        lambda a, b: (1 - share) * a + share * b, first.variables, second.variables
    )
    source = f"{share:g} of the way from {first.source} to {second.source}"
    return pretrained(second.config, variables, source, second.facts)


def main() -> int:
    """Reads the arguments and writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("first", help="as `gmsrm inpaint --checkpoint` takes it")
    parser.add_argument("second")
    parser.add_argument("--share", type=float, default=0.5, help="of the second")
    parser.add_argument("--output", required=True, type=pathlib.Path, metavar="DIR")
    args = parser.parse_args()

    def blend() -> None:
        network = blended(load_pretrained(args.first), load_pretrained(args.second), args.share)
        save_pretrained(args.output, network)

    return status_of("blend_networks", blend)


if __name__ == "__main__":
    sys.exit(main())
