"""MEDFE: sizes, equalisation, smoothed pictures, its losses, the generator in float64."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from generator_references import by_distance as distance_reference
from generator_references import by_similarity as similarity_reference
from generator_references import medfe as reference
from generator_references import resized as resized_reference
from ml_collections import ConfigDict
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve
from small_networks import compiled, filled_by_hand, normal

from gmsrm_jax.assets import asset_path
from gmsrm_jax.config.checks import check_config
from gmsrm_jax.config.fields import apply_argument, base_config
from gmsrm_jax.data.decoding import decode_image, resize_for_test
from gmsrm_jax.data.listing import list_images
from gmsrm_jax.methods import METHODS
from gmsrm_jax.methods.base import Context, TrainState
from gmsrm_jax.methods.medfe import network
from gmsrm_jax.methods.medfe.equalisation import (
    Equalisation,
    as_released,
    by_distance,
    by_similarity,
)
from gmsrm_jax.methods.medfe.smoothing import smoothed
from gmsrm_jax.nn.optimizers import falling_rate
from gmsrm_jax.nn.vgg import features, load_vgg
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.pixels import to_signed

MEDFE = METHODS["medfe"]
SIZE, BATCH = 32, 4


def small_config(**fields: Any) -> ConfigDict:
    """The local config with few channels."""
    config = apply_argument(base_config(), "medfe,runlocal").unlock()
    config.batch_size = BATCH
    tiny = {"width": 2, "discriminator_features": (4, 6, 8, 8)}
    for name, value in (tiny | fields).items():
        (config if name in config else config.medfe)[name] = value
    check_config(config)
    return config.lock()


def paper_config() -> ConfigDict:
    """The defaults, without a VGG, which no package has whole."""
    config = apply_argument(base_config(), "medfe").unlock()
    config.medfe.perceptual_weight = config.medfe.style_weight = 0.0
    return config


def pictures(count: int = BATCH, size: int = SIZE) -> dict[str, np.ndarray]:
    """Noise over a slope, uint8, with a hole of another place in each."""
    rng = np.random.default_rng(0)
    slope = np.linspace(40, 200, size)[None, None, :, None] * np.ones((count, size, 1, 3))
    image = np.clip(slope + rng.normal(0, 30, (count, size, size, 3)), 0, 255).astype(np.uint8)
    mask = np.zeros((count, size, size, 1), np.uint8)
    for index in range(count):
        row, column = rng.integers(0, size // 2, 2)
        mask[index, row : row + size // 2, column : column + size // 2] = 1
    return {"image": image, "mask": mask}


def stage_of(config: ConfigDict, examples: int = 64) -> Any:
    (spec,) = MEDFE.stages(config)
    return spec.build(Context(num_examples=examples, validation=pictures(6)))


def count(tree: Any) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


# Sizes


def test_numbers_of_parameters_are_those_of_the_public_network() -> None:
    config = paper_config()
    weights = jax.eval_shape(lambda: MEDFE.init(config, jax.random.key(0)))["network"]["params"]
    assert count(weights) == 103_118_630
    sizes = {name: count(tree) for name, tree in weights.items()}
    of = {
        part: sum(size for name, size in sizes.items() if name.startswith(part))
        for part in ("encoder", "residual", "middle", "decoder")
    }
    assert of == {
        "encoder": 11_152_064,
        "residual": 18_874_368,
        "middle": 54_993_699,
        "decoder": 18_098_499,
    }
    middle = {name: count(tree) for name, tree in weights["middle"].items()}
    assert [middle[f"fill_{k}"] for k in (3, 5, 7)] == [2_951_680, 8_194_560, 16_058_880]
    assert [middle[f"texture_{k}"] for k in (1, 2, 3)] == [655_360, 524_288, 65_536]
    assert middle["join"] == 196_608 and middle["fuse"] == 262_144
    assert middle["equalise"] == 33_312 + 524_288 and middle["picture"] == 771


def test_both_discriminators_have_the_known_size_and_maps() -> None:
    stage = stage_of(paper_config())
    assert not stage.constants and stage.crop_side == 64
    state = jax.eval_shape(lambda key: stage.init(key, {}), jax.random.key(0))
    names = [adversary.name for adversary in stage.adversaries]
    assert set(state.variables) == {"network", *names} and len(names) == 2
    for adversary, side, maps in zip(stage.adversaries, (256, 64), (8, 2), strict=True):
        variables = state.variables[adversary.name]
        assert count(variables["params"]) == 2_764_737
        seen = jax.ShapeDtypeStruct((2, side, side, 3), jnp.float32)
        logits, _ = jax.eval_shape(adversary.judge, variables, (seen,))
        assert logits.shape == (2, maps, maps, 1)


@pytest.mark.parametrize("size", [32, 512])
def test_levels_follow_the_picture(size: int) -> None:
    assert list(map(network.levels_of, (32, 64, 128, 256, 512))) == [4, 4, 5, 6, 6]
    config = small_config(image_size=size)
    drawn = jax.eval_shape(lambda: MEDFE.init(config, jax.random.key(0)))
    image, mask = (jax.ShapeDtypeStruct((2, size, size, c), jnp.float32) for c in (3, 1))

    def predicted(variables: Any, image: jax.Array, mask: jax.Array) -> Any:
        shown = network.inputs(config, image, mask)
        return network.generator(config).apply(variables["network"], *shown)

    picture, *small = jax.eval_shape(predicted, drawn, image, mask)
    assert picture.shape == (2, size, size, 3)
    assert [x.shape for x in small] == [(2, size // 8, size // 8, 3)] * 2


def test_layers_of_vgg_16_are_asked_for(tmp_path: Any) -> None:
    config = apply_argument(base_config(), "medfe").unlock()
    config.medfe.vgg = str(tmp_path / "missing.safetensors")
    with pytest.raises(UserError, match=r"VGG-16.*convert lpips.*--config\.medfe\.vgg="):
        stage_of(config)


# Filling and equalisation


def test_the_hole_has_the_constant_colour_and_its_places_are_unknown() -> None:
    batch = pictures(size=32)
    image, mask = np.asarray(to_signed(batch["image"])), np.float32(batch["mask"])
    for name in ("hole", "none"):
        shown, known = network.inputs(small_config(filling_mask=name), image, mask)
        colour = np.array([-0.03529, -0.18431, -0.08235])
        expected = np.where(mask > 0, colour, image)
        np.testing.assert_allclose(shown[..., :3], expected, atol=1e-5)
        np.testing.assert_array_equal(shown[..., 3:], np.repeat(1 - mask, 3, -1))
        coarse = 1 - mask[:, ::8, ::8]
        assert 0 < coarse.mean() < 1
        np.testing.assert_array_equal(known, coarse if name == "hole" else np.ones_like(coarse))


def test_weights_of_distance_are_the_known_ones() -> None:
    impulses = np.zeros((2, 32, 32, 1), np.float32)
    impulses[0, :, 0], impulses[1, 16] = 1, 1
    # Rows and columns have the same weights K.
    first, middle = np.asarray(by_distance(jnp.asarray(impulses)))[..., 0]
    first_row = np.asarray(by_distance(jnp.eye(32)[None, :, None] * jnp.ones((1, 1, 32, 1))))
    assert first_row.shape == (1, 32, 32, 32)
    k = first_row[0, :, 0]  # K_ij
    np.testing.assert_allclose(
        k[0, :6], [0.42017, 0.33645, 0.17274, 0.05686, 0.01200, 0.00162], atol=6e-6
    )
    np.testing.assert_allclose(
        k[16, 12:17], [0.00760, 0.03599, 0.10934, 0.21297, 0.26596], atol=6e-6
    )
    np.testing.assert_allclose(first, np.broadcast_to(k[:, 0], (32, 32)), atol=1e-6)
    np.testing.assert_allclose(middle, np.broadcast_to(k[:, 16, None], (32, 32)), atol=1e-6)
    constant = jnp.full((1, 8, 8, 2), 0.7)
    np.testing.assert_allclose(by_distance(constant), constant, atol=1e-6)


def test_bilateral_sums_are_those_of_loops() -> None:
    x = normal(0, 2, 6, 5, 4)
    np.testing.assert_allclose(by_distance(x), distance_reference(np.float64(x)), atol=1e-5)
    np.testing.assert_allclose(by_similarity(x), similarity_reference(np.float64(x)), atol=1e-5)


def test_weights_of_similarity_where_features_vanish() -> None:
    """Inside 1 / 9; in a corner places outside keep exp(0): a small bump shows each weight."""
    for place, inside in (((3, 3), 1 / 9), ((0, 0), 0.126678)):
        row, column = place
        jacobian = jax.jacfwd(by_similarity)(jnp.zeros((1, 6, 6, 1)))[0, row, column, 0, 0]
        window = np.asarray(jacobian)[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2, 0]
        np.testing.assert_allclose(window, inside, atol=1e-6)
        assert np.count_nonzero(jacobian) == window.size
    outside = (1 - 4 * 0.126678) / 5
    assert outside == pytest.approx(0.098657, abs=1e-6)


def test_the_released_layout_reads_places_as_channels() -> None:
    n, h, w, c = 2, 3, 4, 5
    x = normal(0, n, h, w, c)
    found = np.asarray(as_released(jnp.asarray(x)))
    for k, channel, i, j in np.ndindex(n, c, h, w):
        place, source = divmod(channel * h * w + i * w + j, c)
        assert found[k, i, j, channel] == x[k, place // w, place % w, source]
    layers = [Equalisation(), Equalisation(released_layout=True)]
    big = normal(1, 2, 4, 4, 16)
    weights = filled_by_hand(jax.eval_shape(layers[0].init, jax.random.key(0), big))
    right, mixed = (compiled(layer.apply)(weights, big) for layer in layers)
    assert np.abs(right - mixed).max() > 0.1
    alone = compiled(layers[0].apply)(weights, big[1:])
    np.testing.assert_allclose(alone, right[1:], atol=1e-4)


# Smoothed pictures


@functools.cache
def photograph(size: int) -> np.ndarray:
    """float64 [1, size, size, 3] in [0, 1]."""
    path = list_images(asset_path("facades/test"))[0]
    whole = decode_image(path.read_bytes())
    return np.float64(resize_for_test(whole, size, 1.25, "shorter_side"))[None] / 255


def rtv(image: np.ndarray, strength: float, sigma: float, separable: bool) -> np.ndarray:
    """Relative total variation in float64: the whole system, or lines of it in turn."""
    h, w, _ = image.shape
    x = image
    for _ in range(3):
        f_x, f_y = np.zeros_like(x), np.zeros_like(x)
        f_x[:, :-1], f_y[:-1] = x[:, 1:] - x[:, :-1], x[1:] - x[:-1]
        here = 1 / np.maximum(np.sqrt(f_x**2 + f_y**2).mean(-1), 0.001)
        radius = (round(5 * sigma) | 1) // 2
        blurred = ndimage.gaussian_filter(x, sigma, radius=radius, mode="constant", axes=(0, 1))
        w_x, w_y = np.zeros((h, w)), np.zeros((h, w))
        b_x, b_y = (np.abs(np.diff(blurred, axis=a)).mean(-1) for a in (1, 0))
        w_x[:, :-1] = here[:, :-1] / np.maximum(b_x, 0.001)
        w_y[:-1] = here[:-1] / np.maximum(b_y, 0.001)
        # Differences to the right and below, as matrices over all pixels.
        places = np.arange(h * w).reshape(h, w)
        laplacians = []
        for weights, a, b in (
            (w_x[:, :-1], places[:, :-1], places[:, 1:]),
            (w_y[:-1], places[:-1], places[1:]),
        ):
            pairs, weight = np.arange(a.size), np.sqrt(weights.ravel())
            d = sparse.csr_matrix((weight, (pairs, b.ravel())), (a.size, h * w))
            d = d - sparse.csr_matrix((weight, (pairs, a.ravel())), (a.size, h * w))
            laplacians.append(d.T @ d)
        one, flat = sparse.identity(h * w), image.reshape(h * w, -1)
        if separable:
            for t in (1, 2, 3):
                share = 1.5 * 4 ** (3 - t) / 63 * strength / 2
                for laplacian in laplacians:
                    flat = spsolve((one + share * laplacian).tocsc(), flat)
        else:
            flat = spsolve((one + strength / 2 * sum(laplacians)).tocsc(), flat)
        x, sigma = flat.reshape(image.shape), max(sigma / 2, 0.5)
    return x


def test_smoothed_pictures_are_those_of_float64_lines() -> None:
    image = photograph(64)
    found = np.asarray(compiled(smoothed)(image))[0]
    expected = rtv(image[0], 0.015, 3.0, separable=True)
    np.testing.assert_allclose(found, expected, atol=2e-4)
    # Near the exact system's, measured where it is used, in small pictures.
    exact = rtv(image[0], 0.015, 3.0, separable=False)
    small, small_exact, small_image = (
        resized_reference(x[None], 8) for x in (expected, exact, image[0])
    )
    change = np.abs(small_exact - small_image).mean()
    assert np.abs(small - small_exact).mean() < 0.5 * change


def test_smoothing_keeps_constants_and_mean_colours() -> None:
    flat = jnp.full((1, 16, 16, 3), 0.3)
    np.testing.assert_allclose(smoothed(flat), flat, atol=1e-5)
    image = photograph(64)
    found = compiled(smoothed)(image)
    np.testing.assert_allclose(found.mean((1, 2)), image.mean((1, 2)), atol=1e-5)
    np.testing.assert_allclose(smoothed(image[:, :16, :16], 0.0), image[:, :16, :16], atol=1e-6)


@pytest.mark.parametrize(("before", "after"), [(256, 32), (4, 32), (8, 8)])
def test_resizing_is_bilinear_between_two_pixels(before: int, after: int) -> None:
    x = normal(0, 1, before, before, 2)
    found = np.asarray(network.resized(x, after))
    np.testing.assert_allclose(found, resized_reference(np.float64(x), after), atol=1e-5)
    if before == 256:
        pixels = [x[:, i::8, j::8] for i in (3, 4) for j in (3, 4)]
        np.testing.assert_allclose(found, np.mean(pixels, 0), atol=1e-6)


# The generator


@pytest.mark.parametrize("size", [32, 128])
def test_the_generator_is_that_of_float64(size: int) -> None:
    """Of four levels, whose last stands three times for structure, and of five."""
    config = small_config(image_size=size)
    shapes = jax.eval_shape(lambda: MEDFE.init(config, jax.random.key(0)))["network"]["params"]
    params, batch = filled_by_hand(shapes), pictures(2, size)
    image, mask = to_signed(batch["image"]), jnp.float32(batch["mask"])
    shown, known = network.inputs(config, image, mask)
    found = compiled(network.generator(config).apply)({"params": params}, shown, known)
    expected = reference(params, np.asarray(shown), np.asarray(known))
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-3)
        assert np.std(theirs) > 0.1


# A step


def test_the_rate_is_constant_then_falls_to_zero() -> None:
    rate = falling_rate(2e-4, 60, 20)
    found = np.array([rate(step) for step in (0, 19, 20, 40, 60)])
    np.testing.assert_allclose(found, [2e-4, 2e-4, 2e-4, 1e-4, 0], rtol=1e-5)


def test_local_crops_are_drawn_anew_in_every_step() -> None:
    stage = stage_of(small_config(image_size=128))
    image, mask = jnp.zeros((BATCH, 128, 128, 3)), jnp.zeros((BATCH, 128, 128, 1))

    def corners(step: int) -> np.ndarray:
        state: Any = TrainState(jnp.asarray(step), {}, {}, {}, {}, {})
        return np.asarray(stage._derived(state, image, mask)["corner"])

    drawn = np.stack([corners(step) for step in range(6)])
    assert stage.crop_side == 32 and drawn.min() >= 0 and drawn.max() <= 96
    assert len(np.unique(drawn.reshape(-1, 2), axis=0)) > 20
    np.testing.assert_array_equal(drawn[2], corners(2))


def gram(x: np.ndarray) -> np.ndarray:
    flat = np.float64(x).reshape(x.shape[0], -1, x.shape[-1])
    return np.einsum("npi,npj->nij", flat, flat) / x[0].size


@pytest.mark.slow
def test_a_step_has_the_losses_of_numpy_and_moves_three_networks() -> None:
    config, batch = small_config(image_size=64, filling_layers=1), pictures(size=64)
    stage = stage_of(config)
    state = compiled(stage.init)(jax.random.key(0, impl="unsafe_rbg"), {})
    image, signed = np.float64(batch["image"]) / 127.5 - 1, to_signed(batch["image"])
    mask = jnp.float32(batch["mask"])
    shown = network.inputs(config, signed, mask)
    predicted = compiled(network.generator(config).apply)(state.variables["network"], *shown)
    raw, texture, structure = (np.float64(x) for x in predicted)
    parts = compiled(stage._derived)(state, signed, mask)
    lines = np.stack(
        [rtv(x, 0.015, config.medfe.smoothing_sigma, separable=True) for x in image / 2 + 0.5]
    )
    expected = {
        "l1": np.abs(raw - image).mean(),
        "texture": np.abs(texture - resized_reference(image, 8)).mean(),
        "structure": np.abs(structure - resized_reference(2 * lines - 1, 8)).mean(),
        "adversarial": 0.0,
    }
    places = [(int(i), int(j)) for i, j in parts["corner"]]
    local = [
        np.stack([x[i : i + 32, j : j + 32] for x, (i, j) in zip(y, places, strict=True)])
        for y in (image, raw)
    ]
    judged = {}
    for adversary, seen in zip(stage.adversaries, ((image, raw), local), strict=True):
        variables = state.variables[adversary.name]
        judge = compiled(adversary.judge)
        real, fake = (np.float64(judge(variables, (jnp.float32(x),))[0]) for x in seen)
        axes = {"axis": (1, 2, 3), "keepdims": True}
        above, below = real - fake.mean(**axes), fake - real.mean(**axes)
        expected["adversarial"] += ((above + 1) ** 2).mean() / 2 + ((below - 1) ** 2).mean() / 2
        judged[adversary.name] = ((above - 1) ** 2).mean() / 2 + ((below + 1) ** 2).mean() / 2
    perceptual, style = ("relu1_1", "relu2_1", "relu3_1"), ("relu2_2",)
    vgg = load_vgg("bundled", perceptual, field="medfe.vgg")
    maps = [
        [np.asarray(m) for m in compiled(lambda x: features(vgg, x, perceptual + style))(x)]
        for x in (jnp.float32(raw), jnp.float32(image))
    ]
    pairs = list(zip(*maps, strict=True))
    expected["perceptual"] = sum(np.abs(np.float64(a) - b).mean() for a, b in pairs[:3])
    expected["style"] = sum(np.abs(gram(a) - gram(b)).mean() for a, b in pairs[3:])

    step = compiled(stage.programs["main"])
    after, scalars = jax.device_get(step(state, {**batch, **stage.constants}))
    weights = {"l1": 1, "texture": 1, "structure": 1, "adversarial": 0.2}
    weights |= {"perceptual": 0.2, "style": 250}
    assert expected.keys() == weights.keys()
    for name, value in expected.items():
        assert scalars[f"loss/{name}"] == pytest.approx(value, rel=2e-3), name
    total = sum(weights[name] * value for name, value in expected.items())
    assert scalars["loss/total"] == pytest.approx(total, rel=1e-3)
    for name, value in judged.items():
        assert scalars[f"loss/{name}"] == pytest.approx(value, rel=1e-3), name
    layers = {"network": "encoder_1", **dict.fromkeys(judged, "conv_0")}
    assert set(after.variables) == set(layers) and set(after.average) == {"network"}
    for name, layer in layers.items():
        old, new = (
            np.asarray(tree.variables[name]["params"][layer]["kernel"])
            for tree in (jax.device_get(state), after)
        )
        # Adam's first step is the rate in every direction.
        assert np.median(np.abs(new - old)) == pytest.approx(2e-4, rel=0.05), name
