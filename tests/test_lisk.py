"""LISK: sizes, structure from known pixels, attention, its losses, the generator in float64."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from generator_references import lisk as reference
from ml_collections import ConfigDict
from scipy import ndimage
from skimage.color import rgb2gray
from skimage.feature import canny as canny_reference
from small_networks import compiled, filled_by_hand, normal

from gmsrm_jax.config.checks import check_config
from gmsrm_jax.config.fields import apply_argument, base_config
from gmsrm_jax.methods import METHODS
from gmsrm_jax.methods.base import Context, TrainState
from gmsrm_jax.methods.lisk import network, structure
from gmsrm_jax.nn.attention import attend
from gmsrm_jax.nn.losses import reconstruction_loss
from gmsrm_jax.nn.smooth_fill import smooth_fill
from gmsrm_jax.nn.vgg import features, load_vgg, max_pool
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.pixels import to_signed

LISK = METHODS["lisk"]
SIZE, BATCH = 32, 4


def small_config(**fields: Any) -> ConfigDict:
    """The local config with few channels."""
    config = apply_argument(base_config(), "lisk,runlocal").unlock()
    config.batch_size = BATCH
    tiny = {"width": 4, "residual_blocks": 1, "discriminator_features": (4, 6, 8, 8)}
    for name, value in (tiny | fields).items():
        (config if name in config else config.lisk)[name] = value
    check_config(config)
    return config.lock()


def pictures(count: int = BATCH, seed: int = 0) -> dict[str, np.ndarray]:
    """Discs and slopes, uint8, with a hole of another place in each."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    image = np.zeros((count, SIZE, SIZE, 3), np.uint8)
    mask = np.zeros((count, SIZE, SIZE, 1), np.uint8)
    for index in range(count):
        row, column, radius = rng.integers(8, 24, 3)
        disc = np.hypot(rows - row, columns - column) < radius
        colours = rng.integers(0, 256, (2, 3))
        shade = rng.normal(0, 4, (SIZE, SIZE, 3)) + columns[..., None]
        image[index] = np.clip(np.where(disc[..., None], *colours) + shade, 0, 255)
        row, column = rng.integers(0, SIZE // 2, 2)
        mask[index, row : row + SIZE // 2, column : column + SIZE // 2] = 1
    return {"image": image, "mask": mask}


def stage_of(config: ConfigDict) -> Any:
    (spec,) = LISK.stages(config)
    return spec.build(Context(num_examples=16, validation=pictures(6)))


@functools.cache
def plain() -> tuple[Any, TrainState]:
    stage = stage_of(small_config())
    return stage, compiled(stage.init)(jax.random.key(0, impl="unsafe_rbg"), {})


def count(tree: Any) -> int:
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


# Sizes


@pytest.mark.parametrize(
    ("small_pictures", "parameters"), [(False, 15_087_830), (True, 15_089_000)]
)
def test_number_of_parameters(small_pictures: bool, parameters: int) -> None:
    """That of the released network, which has the small pictures' heads, and without them."""
    config = apply_argument(base_config(), "lisk").unlock()
    config.lisk.small_pictures = small_pictures
    weights = jax.eval_shape(lambda: LISK.init(config, jax.random.key(0)))["network"]["params"]
    assert config.image_size == 256 and config.batch_size == 4
    assert count(weights) == parameters
    sizes = {name: count(tree) for name, tree in weights.items()}
    assert [sizes[n] for n in ("in", "down_half", "down_quarter")] == [34_688, 131_456, 525_056]
    scales = ("quarter", "half", "whole")
    assert [sizes[f"attention_{s}"] for s in scales] == [1_127_985, 282_393, 70_797]
    assert [sizes[f"structure_{s}"] for s in scales] == [1_639_168, 409_984, 102_592]
    assert [sizes["up_half"], sizes["up_whole"]] == [1_048_960, 262_336]


def test_the_discriminator_has_the_known_size() -> None:
    config = apply_argument(base_config(), "lisk").unlock()
    config.lisk.content_weight = config.lisk.style_weight = 0.0
    stage = stage_of(config)
    assert not stage.constants
    state = jax.eval_shape(lambda key: stage.init(key, {}), jax.random.key(0))
    assert count(state.variables["discriminator"]["params"]) == 2_764_737


def test_layers_of_vgg_that_are_not_bundled_are_asked_for() -> None:
    config = apply_argument(base_config(), "lisk").unlock()
    config.lisk.vgg = "bundled"
    with pytest.raises(UserError, match=r"relu5_1.*convert vgg19.*--config\.lisk\.vgg="):
        stage_of(config)


# Structure


def test_sobel_of_a_ramp_and_of_a_step() -> None:
    ramp = np.broadcast_to(np.arange(4.0), (4, 4))
    step = (np.arange(4)[:, None] >= 2) * np.ones((4, 4))
    found = np.asarray(structure.sobel(jnp.float32(np.stack([ramp, step])[..., None])))
    np.testing.assert_array_equal(found[0, 1], [[0, 0], [0, 8], [0, 8], [0, 0]])
    np.testing.assert_array_equal(found[1, :, 1], [[0, 0], [4, 0], [4, 0], [0, 0]])


def test_sobel_is_that_of_scipy() -> None:
    x = normal(0, 2, 9, 8, 3)
    expected = [
        np.stack([ndimage.sobel(np.float64(y[..., c]), axis, mode="mirror") for y in x])
        for c in range(3)
        for axis in (0, 1)
    ]
    np.testing.assert_allclose(structure.sobel(x), np.stack(expected, -1), atol=1e-5)


def test_priority_of_one_edge_pixel() -> None:
    edges = np.zeros((2, 15, 15, 1), np.float32)
    edges[0, 7, 7] = edges[1, 0, 0] = 1
    found = np.asarray(structure.priority(edges))[..., 0]
    axis = [0.082547, 0.06414, 0.02974, 0.00765, 0.00085, 0]
    np.testing.assert_allclose(found[0, 7, 7:13], axis, atol=5e-6)
    np.testing.assert_allclose(found.sum((1, 2)), [1, 0.322335], atol=1e-6)


def edges_of(image: np.ndarray, sigma: float) -> np.ndarray:
    """scikit-image's edges of pictures in [0, 1]."""
    return np.stack([canny_reference(rgb2gray(x), sigma) for x in image])[..., None] * 1.0


@pytest.mark.parametrize("inputs", ["known", "complete"])
def test_the_generator_sees_the_structure_of_known_pixels(inputs: str) -> None:
    config, batch = small_config(structure_inputs=inputs), pictures()
    image, mask = np.asarray(to_signed(batch["image"])), np.float32(batch["mask"])
    see = compiled(functools.partial(structure.seen, config))
    found = np.asarray(see(image, mask))
    whole = image
    if inputs == "known":
        whole = np.where(mask > 0, np.asarray(smooth_fill(image, mask)), image)
    edges = edges_of(np.float64(whole) / 2 + 0.5, config.lisk.sigma)
    known = 1 - mask
    assert (edges * known).sum() > 50
    sobel = np.asarray(structure.sobel(whole))
    lines = np.where(mask > 0, 1, 1 - edges)
    expected = np.concatenate([image * known, lines, mask, sobel * known], -1)
    assert found.shape == (BATCH, SIZE, SIZE, 11)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    other = np.where(mask > 0, np.float32(0.3), image)
    assert np.array_equal(see(other, mask), found) == (inputs == "known")


def test_structure_loss_is_that_of_numpy_whatever_the_micro_batches() -> None:
    config, image = small_config(), to_signed(pictures()["image"])
    targets = compiled(functools.partial(structure.targets, config))(image)
    unit = np.float64(pictures()["image"]) / 255
    for name, scale in {"quarter": 4, "half": 2, "whole": 1}.items():
        target, small = targets[name], unit[:, ::scale, ::scale]
        edges = edges_of(small, config.lisk.sigma)
        assert edges.sum() > 10
        np.testing.assert_allclose(target.priority, structure.priority(edges), atol=1e-6)
        np.testing.assert_allclose(target.gradients, structure.sobel(2 * small - 1), atol=1e-4)
        predicted = normal(scale, *target.gradients.shape)
        error = np.abs(np.float64(predicted) - target.gradients)
        p = np.float64(target.priority)
        expected = 0.1 * error.mean() + (p * error).sum() / p.sum() / 6
        found = structure.structure_loss(jnp.asarray(predicted), target)
        np.testing.assert_allclose(found, expected, rtol=1e-5)
        halves = [
            structure.structure_loss(part, jax.tree.map(lambda x, k=k: x[k::2], target))
            for k, part in enumerate((predicted[::2], predicted[1::2]))
        ]
        np.testing.assert_allclose(np.mean(halves), expected, rtol=1e-5)
        off_by_one = structure.structure_loss(target.gradients + 1, target)
        np.testing.assert_allclose(off_by_one, 0.1 + 1, rtol=1e-5)


def test_without_an_edge_the_structure_loss_is_its_mean() -> None:
    config = small_config()
    target = structure.targets(config, jnp.zeros((2, SIZE, SIZE, 3)))["half"]
    assert not np.any(target.priority)
    loss = structure.structure_loss(target.gradients + 2, target)
    np.testing.assert_allclose(loss, 0.2, rtol=1e-6)


# Attention


def test_attention_is_a_softmax_over_keys_without_a_scale() -> None:
    """With more queries than stand in memory at once; weights and their gradient."""
    q, k, v = normal(0, 1, 46, 46, 3), normal(1, 1, 3, 4, 3), normal(2, 1, 3, 4, 5)
    found, pull = jax.vjp(attend, q, k, v)
    assert found.shape == (1, 46, 46, 5)

    def library(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
        # Values are padded to the depth of queries: there is one depth for all.
        q, k = (jnp.pad(x.reshape(1, -1, 1, 3), [(0, 0)] * 3 + [(0, 2)]) for x in (q, k))
        y = jax.nn.dot_product_attention(q, k, v.reshape(1, -1, 1, 5), scale=1.0)
        return y.reshape(1, 46, 46, 5)

    expected, pull_expected = jax.vjp(library, q, k, v)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    cotangent = normal(3, 1, 46, 46, 5)
    for ours, theirs in zip(pull(cotangent), pull_expected(cotangent), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-3)


def test_attention_without_queries_gives_the_mean_of_pooled_values() -> None:
    places = jnp.float32([[1, 5], [2, 6], [3, 7], [4, 8]]).reshape(1, 2, 2, 2)
    values = jnp.concatenate([places, -places], axis=2)
    np.testing.assert_array_equal(max_pool(places)[0, 0, 0], [4, 8])
    found = attend(jnp.zeros((1, 2, 4, 3)), jnp.zeros((1, 1, 2, 3)), max_pool(values))
    np.testing.assert_allclose(found, np.broadcast_to([1.5, 1.5], (1, 2, 4, 2)), atol=1e-6)


def test_attention_begins_as_the_identity() -> None:
    layer, x = network.AttentionLayer(), normal(0, 1, 8, 8, 4)
    variables = compiled(layer.init)(jax.random.key(0, impl="unsafe_rbg"), x)
    np.testing.assert_array_equal(compiled(layer.apply)(variables, x), x)
    gradient = compiled(jax.grad(lambda v: jnp.square(layer.apply(v, x)).sum()))(variables)
    gamma = gradient["params"].pop("gamma")
    assert abs(gamma) > 1e-3 and not any(np.any(g) for g in jax.tree.leaves(gradient))


# The generator


@pytest.mark.parametrize("head_norm", ["instance", "none"])
def test_the_generator_is_that_of_float64(head_norm: str) -> None:
    small = head_norm == "instance"
    config = small_config(head_norm=head_norm, small_pictures=small)
    shapes = jax.eval_shape(lambda: LISK.init(config, jax.random.key(0)))["network"]["params"]
    params = filled_by_hand(shapes)
    seen = normal(1, 2, SIZE, SIZE, 11)
    found = compiled(network.generator(config).apply)({"params": params}, seen)
    pictures, gradients = reference(params, seen)
    assert set(found.pictures) == ({"quarter", "half", "whole"} if small else {"whole"})
    for ours, expected in ((found.pictures, pictures), (found.gradients, gradients)):
        assert ours.keys() == expected.keys()
        for scale, y in expected.items():
            np.testing.assert_allclose(ours[scale], y, atol=2e-3 * np.abs(y).max(), err_msg=scale)
    assert np.std(found.pictures["whole"]) > 0.1


def test_norms_in_front_of_tanh_give_every_picture_the_same_moments() -> None:
    """What the released heads do: mean 0 and deviation 1 of each channel at the start."""
    stage, state = plain()
    batch = pictures()
    see = compiled(functools.partial(LISK.fill, small_config(), noise={}))
    raw = see(state.average, image=to_signed(batch["image"]), mask=jnp.float32(batch["mask"]))
    before = np.arctanh(np.clip(np.float64(raw), -1 + 1e-7, 1 - 1e-7))
    np.testing.assert_allclose(before.mean((1, 2)), 0, atol=0.02)
    np.testing.assert_allclose(before.std((1, 2)), 1, atol=0.02)
    del stage


# A step


def test_l1_of_an_even_error_is_that_of_the_released_sums() -> None:
    """0.1 everywhere, in batches of 4: 1.2 in the hole and 1.2 in the known part."""
    image, mask = jnp.zeros((4, 8, 8, 3)), jnp.zeros((4, 8, 8, 1)).at[:, 2:5].set(1.0)
    weight = small_config().lisk.l1_weight
    both = weight * reconstruction_loss(image + 0.1, image, mask, 1.0, "region")
    np.testing.assert_allclose(both, 2.4, rtol=1e-5)


def gram(x: np.ndarray) -> np.ndarray:
    flat = np.float64(x).reshape(x.shape[0], -1, x.shape[-1])
    return np.einsum("npi,npj->nij", flat, flat) / x[0].size


@pytest.mark.slow
def test_a_step_has_the_losses_of_numpy_and_moves_both_networks() -> None:
    stage, state = plain()
    config, batch = small_config(), pictures()
    image, mask = np.float64(batch["image"]) / 127.5 - 1, np.float64(batch["mask"])
    signed = to_signed(batch["image"])
    module = network.generator(config)
    seen = structure.seen(config, signed, jnp.float32(mask))
    predicted = compiled(module.apply)(state.variables["network"], seen)
    raw = np.float64(predicted.pictures["whole"])
    filled = np.where(mask > 0, raw, image)
    error, expected = np.abs(raw - image), {}
    expected["l1"] = np.mean(
        [e[m > 0].mean() + e[m == 0].mean() for e, m in zip(error, mask[..., 0], strict=True)]
    )
    targets = compiled(functools.partial(structure.targets, config))(signed)
    expected["structure"] = sum(
        float(structure.structure_loss(predicted.gradients[scale], target))
        for scale, target in targets.items()
    )
    judge = compiled(stage.adversary.judge)
    variables = state.variables["discriminator"]
    real, fake = (np.float64(judge(variables, (jnp.float32(x),))[0]) for x in (image, filled))
    expected["adversarial"] = -fake.mean()
    layers = ("relu1_1", "relu2_1", "relu3_1")
    vgg = load_vgg("bundled", layers, field="lisk.vgg")
    taken = compiled(lambda x: features(vgg, x, layers))
    truth, *others = ([np.asarray(m) for m in taken(jnp.float32(x))] for x in (image, raw, filled))
    pairs = [pair for maps in others for pair in zip(maps, truth, strict=True)]
    expected["content"] = 0.2 * sum(np.square(np.float64(a) - b).mean() for a, b in pairs)
    expected["style"] = 0.2 * sum(np.square(gram(a) - gram(b)).sum() / a.size for a, b in pairs)

    step = compiled(stage.programs["main"])
    after, scalars = jax.device_get(step(state, {**batch, **stage.constants}))
    weights = {"l1": 12, "structure": 1, "adversarial": 0.4, "content": 0.1, "style": 250}
    assert expected.keys() == weights.keys()
    for name, value in expected.items():
        assert scalars[f"loss/{name}"] == pytest.approx(value, rel=2e-3, abs=1e-5), name
    total = sum(weights[name] * value for name, value in expected.items())
    assert scalars["loss/total"] == pytest.approx(total, rel=1e-3)
    hinge = np.maximum(1 - real, 0).mean() + np.maximum(1 + fake, 0).mean()
    assert scalars["loss/discriminator"] == pytest.approx(hinge, rel=1e-3)
    assert set(after.variables) == {"network", "discriminator"} and set(after.average) == {
        "network"
    }
    for name, layer in (("network", "in"), ("discriminator", "conv_0")):
        old, new = (
            tree.variables[name]["params"][layer] for tree in (jax.device_get(state), after)
        )
        old, new = (np.asarray(p.get("conv", p)["kernel"]) for p in (old, new))
        # Adam's first step is the rate in every direction.
        assert np.median(np.abs(new - old)) == pytest.approx(1e-4, rel=0.05), name
