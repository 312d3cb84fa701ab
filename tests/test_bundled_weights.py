"""The weights that come with the package: what they are said to be, and that they fill holes."""

import pathlib
import re
import shlex

import numpy as np
import pytest
from PIL import Image

from gmsrm_jax import Inpainter
from gmsrm_jax.assets import BUNDLED_NETWORKS, asset_path
from gmsrm_jax.cli import main
from gmsrm_jax.commands.doctor import problems_of_network
from gmsrm_jax.data.masks import center_mask
from gmsrm_jax.data.sources import open_pictures
from gmsrm_jax.networks import load_pretrained

ROOT = pathlib.Path(__file__).parent.parent
SIZE = 128


@pytest.fixture(scope="module")
def inpainter() -> Inpainter:
    return Inpainter.from_pretrained(device="cpu")


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    """Twelve facades that no training saw: the middle of each, 128 px."""
    pictures = open_pictures("bundled:facades/test")
    middle = []
    for index in range(0, len(pictures), 5):
        image = pictures.image(index)
        top, left = ((side - SIZE) // 2 for side in image.shape[:2])
        middle.append(image[top : top + SIZE, left : left + SIZE])
    return middle


def psnr_in(hole: np.ndarray, filled: np.ndarray, truth: np.ndarray) -> float:
    """10·log10(255² / mean squared error) over the hole, in NumPy float64."""
    error = filled[hole].astype(np.float64) - truth[hole]
    return float(10 * np.log10(255.0**2 / np.mean(error**2)))


def test_fillings_are_nearer_to_the_truth_than_the_mean_colour(
    inpainter: Inpainter, photographs: list[np.ndarray]
) -> None:
    hole = center_mask(SIZE, 0.25)[..., 0] == 1
    ours, trivial, moved = [], [], []
    for truth in photographs:
        first, second = inpainter(truth, hole, num_samples=2, seed=0).images
        np.testing.assert_array_equal(np.asarray(first)[~hole], truth[~hole])
        mean = np.broadcast_to(truth[~hole].mean(0), truth.shape)
        ours.append(psnr_in(hole, np.asarray(first), truth))
        trivial.append(psnr_in(hole, mean, truth))
        moved.append(np.abs(np.asarray(first, np.float64) - second)[hole].mean())
    assert np.mean(ours) >= np.mean(trivial) + 0.5, (ours, trivial)
    assert np.mean(moved) >= 0.5, f"seeds hardly matter: {moved} of 255"


@pytest.mark.parametrize("name", BUNDLED_NETWORKS)
def test_what_is_said_of_them(name: str) -> None:
    folder = asset_path(f"weights/{name}")
    assert problems_of_network(folder) == []
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 32_000_000
    card = (folder / "README.md").read_text()
    assert load_pretrained(name).sha256 in card
    assert "float16" in card and "CC0" in card and "not known" not in card
    assert len(card.splitlines()) <= 80 and "](SCORES.md)" in card  # a page
    pages = card + (folder / "SCORES.md").read_text()
    for figure in folder.glob("*.png"):
        assert f"]({figure.name})" in pages
        with Image.open(figure) as picture:
            assert min(picture.size) >= SIZE


def test_the_readme_s_command_gives_the_picture_that_it_shows(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    line = re.search(r"^gmsrm (inpaint --image gmsrm_jax/assets.*)$", readme, re.MULTILINE)
    assert line
    words = shlex.split(line[1])
    monkeypatch.chdir(ROOT)
    image, mask = (words[words.index(option) + 1] for option in ("--image", "--mask"))
    place = words.index("--output") + 1
    assert words[place] == "filled.png"
    words[place] = str(tmp_path / "filled.png")

    assert main(words) == 0

    assert (
        f"]({mask})" in readme
        and "](docs/example_filled.png)" in readme
        and f"]({image})" in readme
    )
    known = np.asarray(Image.open(mask)) < 128
    filled, shown, given = (
        np.asarray(Image.open(path).convert("RGB"), np.int16)
        for path in (tmp_path / "filled.png", "docs/example_filled.png", image)
    )
    np.testing.assert_array_equal(filled[known], given[known])
    # Other processors round differently.
    assert np.abs(filled - shown).max() <= 2
