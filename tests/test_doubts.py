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


MARK_LESS = "mark no more than what should go"
ALL_OF_IT = "so little is left to go by (mark less)"


def far(depth: int, reach: int, more: str = "") -> str:
    return (
        f"the middle of the hole is {depth} px from its edge, and beyond {reach} px the weights "
        f"only guess ({MARK_LESS}{more})"
    )


@pytest.mark.parametrize(
    ("shape", "side", "options", "reason"),
    [
        ((SIZE, SIZE), 26, {}, f"66% of it is hole, {ALL_OF_IT}"),
        ((SIZE, SIZE), 24, {}, far(12, 11)),
        ((90, 90), 30, {"strategy": "crop"}, far(15, 11, ", or take the strategy detail")),
        ((90, 90), 30, {"strategy": "resize"}, ""),
        ((15, 14), 4, {}, "14 x 15 px are few (give it larger, the network works with 32)"),
        (
            (260, 300),
            9,
            {"strategy": "crop"},
            "the network sees only 32 px of its 300 x 260 at a time, not what they are part of "
            "(take the strategy detail, or scale it down)",
        ),
        (
            (150, 90),
            9,
            {"strategy": "resize"},
            "the network sees it 5 times smaller, without its fine detail (take another strategy)",
        ),
    ],
)
def test_a_large_hole_and_another_scale_are_said(
    shape: tuple[int, int], side: int, options: dict, reason: str
) -> None:
    lines = said(photo(*shape), side, **options)
    assert lines == ([f"picture: may be filled poorly: {reason}"] if reason else [])


def test_detail_fills_deep_holes_and_large_pictures_from_the_picture_itself() -> None:
    # Auto is detail here. The middle is 33 px from the edge, and the network alone reaches 11.
    assert said(photo(260, 300), 66) == []
    # From here on, the network would be shown less than a quarter of what is around the hole.
    (line,) = said(photo(260, 300), 80)
    assert line == f"picture: may be filled poorly: {far(40, 38)}"


@pytest.mark.parametrize("kind", ["grey", "flat"])
def test_another_kind_is_said_where_weights_know_photographs(kind: str) -> None:
    image = photo(SIZE, SIZE)
    blocks = image[::8, ::8].repeat(8, 0).repeat(8, 1)
    image = image[..., :1].repeat(3, 2) if kind == "grey" else blocks
    reason = {"grey": "it has no colour", "flat": "most of it is flat"}[kind]
    (line,) = said(image, 10)
    assert line.startswith(f"picture: may be filled poorly: {reason}")
    assert line.endswith(f", and the weights know {KNOWS}")
    for knows in ("", "icons of 32 px"):
        assert said(image, 10, knows) == []


def test_an_enlarged_photograph_is_not_flat() -> None:
    rough = np.random.default_rng(0).integers(0, 256, (256, 256, 3)).astype(np.uint8)
    enlarged = rough.repeat(4, 0).repeat(4, 1)  # three of four neighbours are equal
    assert said(enlarged, 9) == []


def test_what_is_known_is_cut_where_it_counts() -> None:
    (line,) = said(photo(SIZE, SIZE)[..., :1].repeat(3, 2), 9, "photographs of walls: 377 of brick")
    assert line.endswith("it has no colour, and the weights know photographs of walls")


def test_reasons_make_one_line() -> None:
    (line,) = said(photo(14, 14)[..., :1].repeat(3, 2), 12, "")
    assert line == (
        f"picture: may be filled poorly: 73% of it is hole, {ALL_OF_IT}; 14 x 14 px are few (give "
        "it larger, the network works with 32)"
    )
