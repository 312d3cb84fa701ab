"""What is said of a filling that may be poor: large holes, pictures unlike what weights know."""

import copy

import numpy as np
import pytest
from small_inpainter import small_inpainter
from small_networks import SIZE

KNOWS = "377 photographs of walls"


def photo(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)


def said(image: np.ndarray, side: int, knows: str = KNOWS, **options: object) -> list[str]:
    hole = np.zeros(image.shape[:2], bool)
    top, left = ((length - min(side, length)) // 2 for length in hole.shape)
    hole[top : top + side, left : left + side] = True
    inpainter = copy.copy(small_inpainter())
    inpainter.knows = knows
    return inpainter(image, hole, **options).warnings


def test_nothing_is_said_of_a_small_hole_in_a_picture_of_the_known_scale() -> None:
    assert said(photo(SIZE, SIZE), 10) == said(photo(4 * SIZE, 5 * SIZE), 18) == []


@pytest.mark.parametrize(
    ("shape", "side", "options", "reason"),
    [
        ((SIZE, SIZE), 26, {}, "66% of it is hole"),
        ((SIZE, SIZE), 24, {}, "its hole is 12 px deep, above 11"),
        ((90, 90), 30, {"strategy": "crop"}, "its hole is 15 px deep, above 11"),
        ((90, 90), 30, {"strategy": "resize"}, ""),
        ((15, 14), 4, {}, "it has 14 x 15 px and the network 32"),
        ((260, 300), 9, {"strategy": "crop"}, "the network sees 32 px of its 300 x 260 at a time"),
        ((150, 90), 9, {"strategy": "resize"}, "the network sees it 5 times smaller"),
    ],
)
def test_a_large_hole_and_another_scale_are_said(
    shape: tuple[int, int], side: int, options: dict, reason: str
) -> None:
    lines = said(photo(*shape), side, **options)
    known = f"the weights may fill it poorly (they know: {KNOWS})"
    assert lines == ([f"picture: {reason}; {known}"] if reason else [])


@pytest.mark.parametrize("kind", ["grey", "flat"])
def test_another_kind_is_said_where_weights_know_photographs(kind: str) -> None:
    image = photo(SIZE, SIZE)
    blocks = image[::8, ::8].repeat(8, 0).repeat(8, 1)
    image = image[..., :1].repeat(3, 2) if kind == "grey" else blocks
    reason = {"grey": "it has no colour", "flat": "most of it is flat"}[kind]
    (line,) = said(image, 10)
    assert line.startswith(f"picture: {reason}") and "they know: 377 photographs" in line
    for knows in ("", "icons of 32 px"):
        assert said(image, 10, knows) == []


def test_an_enlarged_photograph_is_not_flat_and_what_is_known_is_cut_where_it_counts() -> None:
    rough = np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    enlarged = rough.repeat(4, 0).repeat(4, 1)  # three of four neighbours are equal
    lines = said(enlarged, 9, "photographs of walls: 377 of brick", strategy="crop")
    assert lines == [
        "picture: the network sees 32 px of its 1024 x 1024 at a time; the weights may fill it "
        "poorly (they know: photographs of walls)"
    ]


def test_reasons_make_one_line() -> None:
    (line,) = said(photo(14, 14)[..., :1].repeat(3, 2), 12, "")
    assert line == (
        "picture: 73% of it is hole, it has 14 x 14 px and the network 32; the weights may fill it "
        "poorly"
    )
