"""Detail at full size, against brute force, exact textures and made-up networks."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from gmsrm_jax.inference.detail import Guide, fill_detail
from gmsrm_jax.inference.detail.belief import minimise
from gmsrm_jax.inference.detail.features import PatchFeatures, patch_metric, patches
from gmsrm_jax.inference.detail.levels import depth_of, make_level, number_of_levels
from gmsrm_jax.inference.detail.transfer import low_frequencies, within_surroundings
from gmsrm_jax.inference.strategies import choose, fill
from gmsrm_jax.inference.tiling import Square

SIZE = 32


def filled(
    rgb: np.ndarray, hole: np.ndarray, guide: np.ndarray, seed: int = 0, scaling: float = 1.0
) -> np.ndarray:
    """Detail's result, its steps checked: they rise to 1."""
    steps = fill_detail(rgb, hole, Guide(guide, np.full((1, 1), scaling, np.float32), 10**6), seed)
    shares = [0.0]
    while True:
        try:
            shares.append(next(steps))
        except StopIteration as end:
            assert shares == sorted(shares) and shares[-1] <= 1
            return end.value


def box_hole(shape: tuple[int, ...], *boxes: tuple[int, int, int, int]) -> np.ndarray:
    hole = np.zeros(shape[:2], bool)
    for top, left, bottom, right in boxes:
        hole[top:bottom, left:right] = True
    return hole


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth noise, 0 … 255."""
    noise = np.random.default_rng(seed).standard_normal((height, width, 3))
    smooth = ndimage.gaussian_filter(noise, (1.2, 1.2, 0))
    return np.clip(128 + 150 * smooth, 0, 255).astype(np.uint8)


def periodic(height: int, width: int, period: int) -> np.ndarray:
    tile = np.random.default_rng(3).integers(0, 256, (period, period, 3)).astype(np.uint8)
    return np.tile(tile, (-(-height // period), -(-width // period), 1))[:height, :width]


def fill_with(strategy: str, rgb: np.ndarray, hole: np.ndarray, answer: object) -> np.ndarray:
    """A strategy's result with `answer` as the network."""
    filling = fill(strategy, rgb, hole, SIZE)
    try:
        squares = next(filling)
        while True:
            squares = filling.send([answer(square) for square in squares])
    except StopIteration as end:
        return end.value


def test_a_periodic_texture_is_continued_exactly_whatever_the_guide_says() -> None:
    truth = periodic(150, 170, 16)
    hole = box_hole(truth.shape, (50, 50, 100, 110))
    mean = np.broadcast_to(truth.mean((0, 1)).astype(np.uint8), truth.shape)
    result = filled(np.where(hole[..., None], np.uint8(0), truth), hole, mean)
    # What is left is the transfer of the guide's low frequencies.
    error = np.abs(result[hole].astype(int) - truth[hole])
    assert error.mean() < 4 and np.median(error) <= 2


@pytest.mark.parametrize("box", [(0, 0, 40, 50), (60, 0, 130, 30), (100, 90, 130, 140)])
def test_a_hole_at_the_border_is_filled_from_inside(box: tuple[int, int, int, int]) -> None:
    truth = periodic(130, 140, 10)
    hole = box_hole(truth.shape, box)
    given = np.where(hole[..., None], np.uint8(0), truth)
    result = filled(given, hole, np.where(hole[..., None], np.uint8(128), truth))
    assert np.abs(result[hole].astype(int) - truth[hole]).mean() < 8


def test_a_half_is_continued_as_the_mirror_image_of_the_other() -> None:
    half = texture(96, 60)
    picture = np.concatenate([half[:, 1:], half[:, ::-1], texture(96, 21, seed=1)], axis=1)
    hole = box_hole(picture.shape, (34, 70, 62, 104))
    got = filled(np.where(hole[..., None], 0, picture), hole, np.full_like(picture, 128))
    assert np.abs(got[hole].astype(int) - picture[hole]).mean() < 8


def test_what_is_alike_all_over_is_copied_from_the_same_height() -> None:
    picture = texture(300, 160)
    picture[..., 2] = np.where(np.arange(300) < 110, 120, 124)[:, None]  # only tells the halves
    hole = box_hole(picture.shape, (30, 50, 80, 110))
    guide = np.where(hole[..., None], np.uint8(122), picture)
    got = filled(np.where(hole[..., None], np.uint8(0), picture), hole, guide)
    assert (got[hole][:, 2] < 122).mean() > 0.85  # 0.78 if heights cost nothing


def test_thin_parts_are_the_networks_bit_for_bit() -> None:
    rgb = texture(160, 200)
    thin = box_hole(rgb.shape, (20, 10, 31, 190), (50, 100, 54, 104))
    thick = box_hole(rgb.shape, (80, 60, 130, 120))
    # Within the colours of a noisy picture nothing of the network's is cut.
    guide = np.clip(texture(160, 200, seed=1), 110, 146)
    result = filled(rgb, thin | thick, guide)
    np.testing.assert_array_equal(result[thin], guide[thin])
    assert (result[thick] != guide[thick]).mean() > 0.9
    np.testing.assert_array_equal(filled(rgb, thin, guide)[thin], guide[thin])


def test_known_pixels_away_from_the_hole_are_not_touched() -> None:
    rgb, guide = texture(120, 150), np.zeros((120, 150, 3), np.uint8)
    hole = box_hole(rgb.shape, (30, 30, 80, 90), (100, 5, 104, 9))
    result = filled(rgb, hole, guide)
    far = ~ndimage.binary_dilation(hole, np.ones((3, 3)))
    np.testing.assert_array_equal(result[far], rgb[far])


def test_what_lies_in_the_hole_is_never_seen() -> None:
    rgb = texture(120, 150)
    hole = box_hole(rgb.shape, (30, 30, 80, 90), (100, 5, 104, 9))
    guide = texture(120, 150, seed=2)
    black, white = (np.where(hole[..., None], np.uint8(v), rgb) for v in (0, 255))
    np.testing.assert_array_equal(
        filled(black, hole, guide)[hole], filled(white, hole, guide)[hole]
    )


def test_a_seed_repeats_and_others_differ() -> None:
    rgb = texture(120, 150)
    hole = box_hole(rgb.shape, (30, 30, 80, 90))
    guide = np.full_like(rgb, 128)
    once, twice, other = (filled(rgb, hole, guide, seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(once, twice)
    assert (once[hole] != other[hole]).mean() > 0.05


@pytest.mark.parametrize("boxes", [[(40, 50, 90, 110)], [(30, 20, 34, 130)], [(0, 0, 25, 150)]])
def test_an_even_surround_gives_an_even_fill(boxes: list) -> None:
    rgb = np.full((130, 150, 3), (180, 190, 200), np.uint8)
    hole = box_hole(rgb.shape, *boxes)
    specks = np.random.default_rng(0).integers(0, 256, rgb.shape).astype(np.uint8)
    np.testing.assert_array_equal(filled(rgb, hole, specks), rgb)


def test_on_a_gradient_colours_stay_within_those_around() -> None:
    ramp = np.repeat(np.linspace(40, 220, 160)[None, :, None], 120, axis=0)
    rgb = np.repeat(np.rint(ramp).astype(np.uint8), 3, axis=2)
    hole = box_hole(rgb.shape, (50, 60, 58, 68))
    guide = np.where(hole[..., None], np.uint8(255), rgb)
    bounded = within_surroundings(guide, hole)
    around = rgb[34:74, 44:84]
    assert bounded[hole].max() <= around.max() < 255
    np.testing.assert_array_equal(bounded[~hole], rgb[~hole])
    np.testing.assert_array_equal(within_surroundings(rgb, hole), rgb)


def test_corners_of_a_border_hole_are_not_dark() -> None:
    rgb = np.full((150, 125, 3), 230, np.uint8)
    hole = ~box_hole(rgb.shape, (15, 15, 135, 110))

    def answer(square: Square) -> np.ndarray:
        return np.full_like(square.image, 230)

    for strategy in ("tile", "detail"):
        result = fill_with(strategy, np.where(hole[..., None], np.uint8(0), rgb), hole, answer)
        assert result[hole].min() >= 228


def test_without_enough_to_copy_from_the_guide_stays() -> None:
    rgb = texture(90, 90)
    hole = ~box_hole(rgb.shape, (3, 3, 11, 11), (60, 60, 66, 80))
    guide = np.clip(texture(90, 90, seed=1), 100, 150)
    np.testing.assert_array_equal(
        filled(rgb, hole, guide)[hole],
        within_surroundings(np.where(hole[..., None], guide, rgb), hole)[hole],
    )
    everything = np.ones((60, 70), bool)
    np.testing.assert_array_equal(
        filled(rgb[:60, :70], everything, guide[:60, :70]), guide[:60, :70]
    )


def test_windows_of_a_large_picture_do_what_one_pass_does(monkeypatch: pytest.MonkeyPatch) -> None:
    truth = periodic(400, 900, 12)
    hole = box_hole(truth.shape, (150, 60, 190, 110), (200, 700, 240, 760), (180, 130, 200, 150))
    given = np.where(hole[..., None], np.uint8(0), truth)
    guide = np.where(hole[..., None], np.uint8(128), truth)
    monkeypatch.setattr("gmsrm_jax.inference.detail.detail._WHOLE", 100_000)
    monkeypatch.setattr("gmsrm_jax.inference.detail.detail._LEAST_MARGIN", 64)
    windows = filled(given, hole, guide)
    assert np.abs(windows[hole].astype(int) - truth[hole]).mean() < 8


def test_depth_counts_the_border_as_a_continuation() -> None:
    hole = box_hole((9, 20), (0, 0, 9, 8))
    padded = np.pad(hole, 1, mode="edge")
    np.testing.assert_allclose(depth_of(padded)[5, 1:9], np.arange(8, 0, -1))
    assert np.isinf(depth_of(np.ones((3, 3), bool))).all()


def test_levels_halve_until_the_hole_is_shallow() -> None:
    assert number_of_levels(5, 500, 500) == 1
    assert number_of_levels(60, 500, 500) < number_of_levels(250, 500, 500)
    assert number_of_levels(1e9, 81, 300) == 2  # sides of 40 pixels at least


def test_scaling_down_averages_what_is_known() -> None:
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 256, (40, 48, 3)).astype(np.uint8)
    hole = rng.random((40, 48)) < 0.3
    level = make_level(rgb, hole, hole, 1)
    known = ~hole.reshape(20, 2, 24, 2).transpose(0, 2, 1, 3).reshape(20, 24, 4)
    cells = rgb.reshape(20, 2, 24, 2, 3).transpose(0, 2, 1, 3, 4).reshape(20, 24, 4, 3)
    wanted = (cells * known[..., None]).sum(2) / np.maximum(known.sum(2), 1)[..., None]
    enough = known.mean(2) >= 0.5
    pixels = level.grid(level.pixels)[4:-4, 4:-4]
    np.testing.assert_allclose(pixels[enough], wanted[enough], atol=1e-3)
    np.testing.assert_array_equal(level.grid(level.hole)[4:-4, 4:-4], ~enough)


def test_sources_are_patches_that_are_all_known_and_inside() -> None:
    hole = np.random.default_rng(1).random((30, 40)) < 0.01
    level = make_level(np.zeros((30, 40, 3), np.uint8), hole, hole, 0)
    source = level.grid(level.source)[4:-4, 4:-4]
    for y, x in np.ndindex(30, 40):
        inside = 3 <= y < 27 and 3 <= x < 37
        assert source[y, x] == (inside and not hole[y - 3 : y + 4, x - 3 : x + 4].any())


def test_features_keep_the_distance_of_patches() -> None:
    rgb = texture(60, 70)
    hole = box_hole(rgb.shape, (20, 20, 30, 30))
    level = make_level(rgb, hole, hole, 0)
    places = np.flatnonzero(level.source)
    features = PatchFeatures(level, 147, np.random.default_rng(0))
    one, two = places[::7][:200], places[3::7][:200]
    rows, columns = np.divmod(one, level.stride)
    picture = level.grid(level.pixels)
    by_hand = np.stack(
        [picture[y - 3 : y + 4, x - 3 : x + 4].ravel() for y, x in zip(rows, columns, strict=True)]
    )
    np.testing.assert_array_equal(patches(level.pixels, level.stride, one), by_hand)
    difference = by_hand.astype(float) - patches(level.pixels, level.stride, two)
    # The metric written out: weighted colours, and differences of neighbours.
    line = np.exp(-(np.arange(-3, 4) ** 2) / (2 * 2.5**2))
    g = np.outer(line, line) / line.sum() ** 2
    d = difference.reshape(-1, 7, 7, 3)
    wanted = (g[..., None] * d**2).sum((1, 2, 3))
    wanted += (np.sqrt(g[:, 1:] * g[:, :-1])[..., None] * np.diff(d, axis=2) ** 2).sum((1, 2, 3))
    wanted += (np.sqrt(g[1:] * g[:-1])[..., None] * np.diff(d, axis=1) ** 2).sum((1, 2, 3))
    np.testing.assert_allclose(
        np.einsum("ni,ij,nj->n", difference, patch_metric(), difference), wanted
    )
    full = ((features.at(level.pixels, one) - features.at(level.pixels, two)) ** 2).sum(1)
    np.testing.assert_allclose(full, wanted, rtol=1e-3)
    few = PatchFeatures(level, 20, np.random.default_rng(0))
    kept = ((few.at(level.pixels, one) - few.at(level.pixels, two)) ** 2).sum(1) / wanted
    assert 0.7 < kept.mean() <= 1.001


def energy(costs: np.ndarray, edges: list, pairs: list, labels: np.ndarray) -> float:
    total = costs[np.arange(len(costs)), labels].sum()
    for (a, b), V in zip(edges, pairs, strict=True):
        total += V[labels[a], labels[b], np.arange(len(a))].sum()
    return float(total)


def test_belief_propagation_finds_the_optimum_of_a_chain() -> None:
    rng = np.random.default_rng(0)
    edges = [(np.arange(4), np.arange(1, 5))]
    for _ in range(20):
        costs = rng.random((5, 4)).astype(np.float32)
        pairs = [rng.random((4, 4, 4)).astype(np.float32)]
        best = minimise(costs, edges, pairs)[:, 0]
        least = min(
            energy(costs, edges, pairs, np.array(labels))
            for labels in itertools.product(range(4), repeat=5)
        )
        assert energy(costs, edges, pairs, best) == pytest.approx(least, rel=1e-5)


def test_belief_propagation_prunes_labels_and_keeps_the_best() -> None:
    rng = np.random.default_rng(1)
    number = np.arange(36).reshape(6, 6)
    edges = [
        (number[:, :-1].ravel(), number[:, 1:].ravel()),
        (number[:-1].ravel(), number[1:].ravel()),
    ]
    costs = rng.random((36, 40)).astype(np.float32)
    costs[np.arange(36), 33] = 0
    pairs = [np.ones((40, 40, 30), np.float32) for _ in range(2)]
    for V in pairs:
        V[np.arange(40), np.arange(40)] = 0
    ranked = minimise(costs, edges, pairs)
    assert ranked.shape == (36, 16)
    np.testing.assert_array_equal(ranked[:, 0], 33)


def test_the_transfer_is_its_formula() -> None:
    rng = np.random.default_rng(2)
    D, N = rng.integers(60, 200, (2, 40, 50, 3)).astype(np.float32)
    N[:, 25:] += 50  # another thing than D has there
    hole = box_hole((40, 50), (10, 12, 30, 40))
    depth = ndimage.distance_transform_edt(hole)
    correction = ndimage.gaussian_filter(
        np.where(hole[..., None], N - D, 0.0), (4, 4, 0), mode="nearest"
    )
    believed = np.exp(-(correction**2).sum(-1) / (2 * 16**2))
    assert believed[hole].min() < 0.5 < believed[hole].max()
    wanted = D + (np.exp(-depth / 20) * believed * hole)[..., None] * correction
    result = low_frequencies(D, N.astype(np.uint8), hole, depth.astype(np.float32))
    np.testing.assert_allclose(result, wanted, atol=0.51)


def test_detail_is_what_auto_takes_for_pictures_larger_than_the_network() -> None:
    assert choose("auto", box_hole((49, 30), (4, 4, 9, 9)), SIZE) == "detail"
    assert choose("auto", box_hole((48, 30), (4, 4, 9, 9)), SIZE) == "resize"
    assert choose("auto", box_hole((300, 300), (0, 0, 280, 280)), SIZE) == "resize"


def test_the_guide_shows_the_network_no_pixel_that_it_filled_itself() -> None:
    rgb = np.full((200, 200, 3), 90, np.uint8)
    hole = box_hole(rgb.shape, (50, 50, 150, 150), (10, 20, 16, 190))

    def answer(square: Square) -> np.ndarray:
        assert np.abs(square.image[~square.hole].astype(int) - 90).max() <= 1  # scaled, rounded
        return np.full_like(square.image, 120)

    fill_with("detail", np.where(hole[..., None], np.uint8(0), rgb), hole, answer)
