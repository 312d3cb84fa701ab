"""Strategies for any size, with networks made by hand in place of the trained one."""

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from gmsrm_jax.inference.feather import feathered
from gmsrm_jax.inference.regions import depth_map, dilated, find_regions
from gmsrm_jax.inference.strategies import choose, fill
from gmsrm_jax.inference.tiling import Filling, Square
from gmsrm_jax.inference.windows import Window, cut, paste, scaled

SIZE = 32


def drive(filling: Filling, answer: Callable[[Square], np.ndarray]) -> tuple[np.ndarray, list]:
    """Runs a strategy to its end; returns the filled picture and all squares it asked for."""
    asked = []
    try:
        squares = next(filling)
        while True:
            asked += squares
            squares = filling.send([answer(square) for square in squares])
    except StopIteration as end:
        return end.value, asked


def plane_network(square: Square) -> np.ndarray:
    """Continues a linear gradient: least squares over the known pixels."""
    size = len(square.hole)
    rows, columns = np.mgrid[:size, :size]
    basis = np.stack([np.ones(size * size), rows.ravel(), columns.ravel()], 1)
    known = ~square.hole.ravel()
    values = square.image.reshape(-1, 3).astype(float)
    solution = np.linalg.lstsq(basis[known], values[known], rcond=None)[0]
    return np.clip(np.rint(basis @ solution), 0, 255).astype(np.uint8).reshape(size, size, 3)


def plane(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width] / max(height, width)
    channels = [20 + 200 * rows, 230 - 180 * columns, 30 + 90 * rows + 100 * columns]
    return np.rint(np.stack(channels, -1)).astype(np.uint8)


def box_hole(height: int, width: int, *boxes: tuple[int, int, int, int]) -> np.ndarray:
    hole = np.zeros((height, width), bool)
    for top, left, bottom, right in boxes:
        hole[top:bottom, left:right] = True
    return hole


def brute_depth(hole: np.ndarray, known: np.ndarray) -> np.ndarray:
    depth = np.where(known, 0, -1)
    level = 0
    while True:
        near = [
            (y, x)
            for y, x in zip(*np.nonzero(hole & (depth < 0)), strict=True)
            if (depth[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2] == level).any()
        ]
        if not near:
            return np.maximum(depth, 0)
        level += 1
        for place in near:
            depth[place] = level


@pytest.mark.parametrize(
    ("strategy", "shape", "boxes"),
    [
        ("resize", (32, 32), [(8, 9, 20, 21)]),
        ("resize", (150, 150), [(40, 60, 90, 100)]),
        ("resize", (20, 20), [(5, 6, 11, 12)]),
        ("crop", (90, 140), [(40, 60, 52, 75), (10, 100, 18, 120)]),
        ("crop", (200, 150), [(60, 40, 130, 110)]),
        ("tile", (160, 130), [(40, 30, 110, 95)]),
        ("tile", (300, 300), [(60, 60, 240, 240)]),
        ("tile", (120, 260), [(50, 20, 54, 240), (80, 30, 84, 34)]),
    ],
)
def test_a_gradient_is_continued_in_place_and_at_scale(
    strategy: str, shape: tuple[int, int], boxes: list
) -> None:
    truth = plane(*shape)
    hole = box_hole(*shape, *boxes)
    given = np.where(hole[..., None], np.uint8(255), truth)
    filled, squares = drive(fill(strategy, given, hole, SIZE), plane_network)
    assert all(square.image.shape == (SIZE, SIZE, 3) for square in squares)
    worst = np.abs(filled.astype(int) - truth)[hole].max()
    # Scaling shifts nothing, so errors are those of rounding and of a fit to rounded values.
    assert worst <= 3


@pytest.mark.parametrize("strategy", ["resize", "crop", "tile"])
def test_what_lies_in_the_hole_is_never_seen(strategy: str) -> None:
    rng = np.random.default_rng(0)
    hole = box_hole(150, 210, (30, 40, 100, 130), (120, 5, 124, 9))
    hole |= rng.random(hole.shape) < 0.001
    black = np.zeros((150, 210, 3), np.uint8)
    outcomes = []
    for content in (0, 255):
        given = np.where(hole[..., None], np.uint8(content), black)
        filled, squares = drive(fill(strategy, given, hole, SIZE), plane_network)
        for square in squares:
            assert square.image[~square.hole].max(initial=0) == 0
        outcomes.append(filled[hole])
    np.testing.assert_array_equal(*outcomes)


@pytest.mark.parametrize("strategy", ["resize", "crop", "tile"])
def test_the_whole_hole_is_filled(strategy: str) -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        height, width = rng.integers(1, 170, 2)
        hole = rng.random((height, width)) < rng.choice([0.002, 0.1, 0.9, 1.0])
        hole[rng.integers(height), rng.integers(width)] = True
        given = rng.integers(0, 200, (height, width, 3)).astype(np.uint8)
        filled, _ = drive(fill(strategy, given, hole, SIZE), lambda s: np.full_like(s.image, 222))
        assert (filled[hole] == 222).all()
        far = ~dilated(hole, 1)
        np.testing.assert_array_equal(filled[far], given[far])


def test_crop_leaves_at_least_half_of_a_window_known() -> None:
    hole = box_hole(400, 400, (50, 50, 170, 170), (300, 300, 316, 316))
    _, squares = drive(fill("crop", plane(400, 400), hole, SIZE), plane_network)
    assert len(squares) == 2
    assert all(square.hole.mean() <= 0.5 for square in squares)


def test_crop_joins_specks_and_keeps_large_parts_apart() -> None:
    specks = box_hole(64, 64, (20, 20, 22, 22), (20, 28, 22, 30), (27, 24, 28, 25))
    assert len(find_regions(specks, SIZE).boxes) == 1
    apart = box_hole(200, 200, (20, 20, 60, 60), (100, 100, 150, 150))
    assert len(find_regions(apart, SIZE).boxes) == 2


def test_tile_keeps_thin_holes_at_the_scale_of_the_network() -> None:
    hole = box_hole(300, 500, (100, 20, 103, 480))
    picture = np.random.default_rng(2).integers(0, 256, (300, 500, 3)).astype(np.uint8)
    _, squares = drive(fill("tile", picture, hole, SIZE), plane_network)
    blocks = {
        picture[y : y + SIZE, x : x + SIZE][:8].tobytes()
        for y in range(70, 110)
        for x in range(500 - SIZE + 1)
    }
    assert len(squares) > 10
    assert all(square.image[:8].tobytes() in blocks for square in squares)


@pytest.mark.parametrize("strategy", ["tile", "detail"])
def test_few_squares_show_all_of_a_part_well_inside(strategy: str) -> None:
    rows, columns = np.mgrid[:100, :250].astype(np.uint8)
    picture = np.stack([rows, columns, np.zeros_like(rows)], -1)  # colours say where they are
    middle = 45 + np.rint(10 * np.sin(columns / 20)).astype(int)
    hole = (np.abs(rows.astype(int) - middle) <= 7) & (columns > 10) & (columns < 240)
    seen = np.zeros_like(hole)
    edge = SIZE // 8

    def answer(square: Square) -> np.ndarray:
        inner = np.s_[edge:-edge, edge:-edge]
        places = square.image[inner][square.hole[inner]]
        seen[places[:, 0], places[:, 1]] = True
        return square.image

    _, squares = drive(fill(strategy, picture, hole, SIZE), answer)
    assert seen[hole].all()
    assert len(squares) <= 2 * -(-229 // (3 * SIZE // 4))  # two rows of cells of 3 S / 4


def test_tile_bounds_the_rounds_of_thick_holes() -> None:
    rounds = 0
    filling = fill("tile", plane(900, 900), box_hole(900, 900, (150, 150, 750, 750)), SIZE)
    squares = next(filling)
    try:
        while True:
            rounds += bool(squares)
            squares = filling.send([plane_network(square) for square in squares])
    except StopIteration:
        assert 1 < rounds <= 4


def test_tile_leaves_no_steps_between_rounds_whose_networks_disagree() -> None:
    truth = np.full((160, 160, 3), 100, np.uint8)
    hole = box_hole(160, 160, (60, 60, 100, 100))
    shades = iter(np.linspace(90, 110, 40))
    filled, squares = drive(
        fill("tile", truth, hole, SIZE),
        lambda s: np.full_like(s.image, round(float(next(shades)))),
    )
    inner = filled[60:100, 60:100, 0].astype(int)
    assert len(squares) > 4
    spread = np.ptp(inner)
    assert spread >= 1
    steps = max(np.abs(np.diff(inner, axis=0)).max(), np.abs(np.diff(inner, axis=1)).max())
    assert steps <= max(2, spread // 2)


def test_auto_by_size_of_picture_and_hole() -> None:
    assert choose("auto", box_hole(32, 32, (4, 4, 9, 9)), SIZE) == "resize"
    assert choose("auto", box_hole(48, 30, (4, 4, 9, 9)), SIZE) == "resize"
    assert choose("auto", box_hole(49, 30, (4, 4, 9, 9)), SIZE) == "detail"
    assert choose("auto", box_hole(300, 300, (0, 0, 280, 280)), SIZE) == "resize"
    assert choose("tile", box_hole(32, 32, (4, 4, 9, 9)), SIZE) == "tile"


def test_parts_are_the_connected_pieces_of_the_hole() -> None:
    rng = np.random.default_rng(3)
    for share in (0.05, 0.2, 0.4):
        hole = rng.random((23, 31)) < share
        found = find_regions(hole, 1).labels
        wanted, number = np.full(hole.shape, -1), 0
        for start in zip(*np.nonzero(hole), strict=True):
            if wanted[start] >= 0:
                continue
            wanted[start], border = number, [start]
            while border:
                y, x = border.pop()
                for ny in range(max(y - 1, 0), min(y + 2, 23)):
                    for nx in range(max(x - 1, 0), min(x + 2, 31)):
                        if hole[ny, nx] and wanted[ny, nx] < 0:
                            wanted[ny, nx] = number
                            border.append((ny, nx))
            number += 1
        np.testing.assert_array_equal(found, wanted)


def test_depth_is_the_kings_distance_from_known_pixels() -> None:
    rng = np.random.default_rng(4)
    hole = rng.random((17, 22)) < 0.85
    blocked = rng.random(hole.shape) < 0.2
    known = ~hole & ~blocked
    wanted = np.where(hole, brute_depth(~known, known), 0)
    np.testing.assert_array_equal(depth_map(hole, known, 99), wanted)
    np.testing.assert_array_equal(depth_map(hole, known, 2), np.where(wanted > 2, 0, wanted))


@pytest.mark.parametrize("pixels", [0, 1, 2, 3, 5, 12, 40, 100, 2**30, 2**31, 10**30])
def test_dilation_reaches_a_square_around_each_pixel(pixels: int) -> None:
    hole = np.zeros((21, 30), bool)
    hole[[3, 15, 20], [4, 18, 29]] = True
    wanted = np.zeros_like(hole)
    for y, x in np.argwhere(hole).tolist():
        wanted[max(y - pixels, 0) : y + pixels + 1, max(x - pixels, 0) : x + pixels + 1] = True
    np.testing.assert_array_equal(dilated(hole, pixels), wanted)


def test_a_window_beyond_the_picture_is_mirrored() -> None:
    rgb = np.random.default_rng(5).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    hole = rgb[..., 0] > 128
    image, mask = cut(rgb, hole, Window(-6, -4, 18), 18)
    wide = ((6, 7), (4, 7))
    np.testing.assert_array_equal(image, np.pad(rgb, (*wide, (0, 0)), mode="symmetric"))
    np.testing.assert_array_equal(mask, np.pad(hole, wide, mode="symmetric"))


def test_scaling_down_marks_every_touched_cell() -> None:
    rng = np.random.default_rng(6)
    hole = rng.random((70, 51)) < 0.01
    _, mask = scaled(np.zeros((70, 51, 3), np.uint8), hole, 20, 17)
    for y, x in np.ndindex(20, 17):
        rows = slice(y * 70 // 20, (y + 1) * 70 // 20)
        columns = slice(x * 51 // 17, (x + 1) * 51 // 17)
        assert mask[y, x] == hole[rows, columns].any()


def test_feather_fades_the_error_at_the_edge() -> None:
    hole = box_hole(40, 50, (10, 12, 30, 38))
    picture = np.full((40, 50, 3), 150, np.uint8)
    predicted = np.full_like(picture, 100)
    soft = feathered(predicted, picture, predicted, hole, 4)
    depth = brute_depth(hole, ~hole)
    wanted = 100 + 50 * np.clip(1 - depth / 5, 0, 1)
    np.testing.assert_allclose(soft[hole][:, 0], wanted[hole], atol=0.51)
    np.testing.assert_array_equal(soft[~hole], predicted[~hole])


def test_feather_follows_its_formula_on_noise() -> None:
    rng = np.random.default_rng(7)
    hole = rng.random((12, 15)) < 0.7
    picture, filled = rng.integers(0, 256, (2, 12, 15, 3)).astype(np.uint8)
    width = 3
    depth = brute_depth(hole, ~hole)
    error = np.where(hole[..., None], 0.0, picture.astype(float) - filled)
    wanted = filled.astype(float)
    for distance in range(1, width + 1):
        for y, x in zip(*np.nonzero(depth == distance), strict=True):
            near = [
                error[ny, nx]
                for ny in range(max(y - 1, 0), min(y + 2, 12))
                for nx in range(max(x - 1, 0), min(x + 2, 15))
                if depth[ny, nx] == distance - 1
            ]
            error[y, x] = np.mean(near, axis=0)
            wanted[y, x] += error[y, x] * (1 - distance / (width + 1))
    soft = feathered(filled, picture, filled, hole, width)
    np.testing.assert_allclose(soft, np.clip(wanted, 0, 255), atol=0.51)
    np.testing.assert_array_equal(feathered(filled, picture, filled, hole, 0), filled)


@pytest.mark.parametrize("height", [40, 300])
def test_a_long_strip_needs_no_square_of_its_length(height: int) -> None:
    truth = plane(height, 4000)
    hole = box_hole(height, 4000, (0, 400, height, 3600))
    given = np.where(hole[..., None], np.uint8(0), truth)
    tracemalloc.start()
    filled, squares = drive(fill("resize", given, hole, SIZE), lambda s: np.full_like(s.image, 99))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (filled[hole] == 99).all()
    assert peak < 10 * truth.nbytes  # the square has 100 or 13 times as many pixels
    (square,) = squares
    assert (square.image[~square.hole] > 0).any() and square.hole.mean() > 0.7


def test_an_enlarged_output_is_pasted_as_the_whole_square_would_be() -> None:
    output = np.random.default_rng(8).integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    target = np.zeros((70, 90, 3), np.uint8)
    paste(target, output, Window(-10, 0, 90), np.ones((70, 90), bool))
    whole = Image.fromarray(output).resize((90, 90), Image.Resampling.BICUBIC)
    assert np.abs(target.astype(int) - np.asarray(whole)[10:80]).max() <= 1
