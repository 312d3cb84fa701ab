"""Makes the bundled mask list of the bundled test pictures.

    python tools/make_test_masks.py

Writes gmsrm_jax/assets/facades/test_masks_64.npz: for each picture of gmsrm_jax/assets/facades/test
one mask of every ratio bin and the two centre holes, at 64 px. To be run again when the samplers
change. Needs TensorFlow.
"""

import argparse

from gmsrm_jax.assets import asset_path
from gmsrm_jax.data.masks.assignment import make_mask_list
from gmsrm_jax.data.masks.list_file import read_mask_list, write_mask_list
from gmsrm_jax.data.sources import open_pictures


def main() -> None:
    """Draws the list, writes it, and reads it back."""
    parser = argparse.ArgumentParser(description="Makes the bundled mask list.")
    parser.add_argument("--size", type=int, default=64, help="side of the masks [px]")
    parser.add_argument("--seed", type=int, default=0, help="seed of the draw")
    arguments = parser.parse_args()
    pictures = open_pictures("bundled:facades/test")
    names = [pictures.name(index) for index in range(len(pictures))]
    path = asset_path("facades/test").parent / f"test_masks_{arguments.size}.npz"
    write_mask_list(path, make_mask_list(names, arguments.size, arguments.seed))
    mask_list = read_mask_list(path)
    print(f"{path}: {len(names)} pictures, {path.stat().st_size:,} bytes, {mask_list.sha256}")


if __name__ == "__main__":
    main()
