"""The generative memory, its mapping network, and the discriminators of both stages."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import (
    LEVELS,
    applied,
    compiled,
    filled_by_hand,
    inputs,
    normal,
    shapes_of,
    weights_for,
)

from gmsrm_jax.methods.gm_srm.generator import draw_cuts, mix_codes
from gmsrm_jax.methods.gm_srm.memory import (
    GenerativeMemory,
    MappingNetwork,
    SynthesisLayer,
    draw_noise,
    noise_shapes,
)
from gmsrm_jax.methods.gm_srm.memory_discriminator import MemoryDiscriminator
from gmsrm_jax.nn import layers
from gmsrm_jax.nn.feature_discriminator import FeatureDiscriminator
from gmsrm_jax.nn.patch_discriminator import PatchDiscriminator
from gmsrm_jax.runtime.errors import UserError

CHANNELS = {4: 8, 8: 6, 16: 4}


def test_noise_has_one_map_at_4_and_two_at_every_other_resolution():
    shapes = [(3, 4, 4, 1)] + [(3, r, r, 1) for r in (8, 8, 16, 16)]
    assert noise_shapes(3, LEVELS) == shapes
    maps = compiled(lambda key: draw_noise(key, 64, [16, 32]))(jax.random.key(1))
    assert [m.shape for m in maps] == [(64, r, r, 1) for r in (16, 16, 32, 32)]
    for m in map(np.asarray, maps):
        np.testing.assert_allclose([m.mean(), m.std()], [0.0, 1.0], atol=0.03)
    assert abs(np.corrcoef(maps[0].ravel(), maps[1].ravel())[0, 1]) < 0.03


@pytest.mark.parametrize("up", [False, True])
def test_synthesis_layer_adds_noise_and_bias_before_its_activation(up):
    x, code = normal(6, 2, 4, 4, 3), normal(7, 2, 5)
    noise = normal(8, 2, 8, 8, 1) if up else normal(8, 2, 4, 4, 1)
    module = SynthesisLayer(6, up)
    params = weights_for(module, x, code, noise)

    def by_hand(params, x, code, noise):
        style = code @ params["style"]["kernel"] / np.sqrt(5) + params["style"]["bias"][None]
        x = layers.fir_upsample(x) if up else x
        y = layers.modulated_conv(x, params["kernel"] / np.sqrt(27), style)
        y = y + params["noise_strength"] * noise + params["bias"][None, None, None]
        return np.sqrt(2, dtype=np.float32) * jnp.where(y > 0, y, 0.2 * y)

    expected = compiled(by_hand)(params, x, code, noise)
    np.testing.assert_allclose(
        applied(module, params, x, code, noise), expected, rtol=1e-4, atol=1e-5
    )


def test_memory_adds_up_the_images_of_its_levels():
    memory = GenerativeMemory(CHANNELS)
    codes = normal(9, 2, 3, 8)
    noise = [normal(10 + k, *shape) for k, shape in enumerate(noise_shapes(2, [4, 8, 16]))]
    params = weights_for(memory, codes, noise)

    def by_hand(params, codes, noise):
        bound, maps, image = memory.bind({"params": params}), iter(noise), None
        x = bound.start(2)
        for level, r in enumerate([4, 8, 16]):
            code = codes[:, level]
            x = bound.first(x, code, next(maps)) if r > 4 else x
            x = bound.second(x, code, next(maps))
            rgb = params[f"rgb_{r}"]
            style = code @ rgb["style"]["kernel"] / np.sqrt(8) + rgb["style"]["bias"][None]
            scaled = x * style[:, None, None, :] / np.sqrt(CHANNELS[r])
            part = scaled @ rgb["kernel"][0, 0] + rgb["bias"][None, None, None]
            image = part if image is None else layers.fir_upsample(image) + part
        return image

    got, expected = applied(memory, params, codes, noise), compiled(by_hand)(params, codes, noise)
    assert got.shape == (2, 16, 16, 3)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="2 codes"):
        memory.apply({"params": params}, codes[:, :2], noise)


def test_mapping_normalises_and_trains_a_hundred_times_slower():
    module = MappingNetwork(7, 2)
    z = normal(11, 3, 5)
    params = weights_for(module, z)
    x = z / np.sqrt(np.square(z).mean(1, keepdims=True))
    for index in range(2):
        dense = params[f"dense_{index}"]
        kernel = np.asarray(dense["kernel"]) * 0.01 / np.sqrt(x.shape[1])
        x = x @ kernel + 0.01 * np.asarray(dense["bias"])
        x = np.sqrt(2) * np.where(x > 0, x, 0.2 * x)
    np.testing.assert_allclose(applied(module, params, z), x, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(applied(module, params, 100 * z), x, rtol=1e-3, atol=1e-6)


def test_style_mixing_takes_the_end_of_another_examples_codes():
    codes = np.broadcast_to(np.arange(4.0)[None, :, None], (4000, 4, 2)).astype(np.float32)

    @compiled
    def mix(key, codes, others, probability):
        return mix_codes(codes, others, draw_cuts(key, len(codes), 4, probability))

    mixed = np.asarray(mix(jax.random.key(0), codes, codes + 10, 0.75))
    foreign = mixed >= 10
    np.testing.assert_array_equal(mixed, codes + 10 * foreign)
    assert not foreign[:, 0].any()
    assert np.all(np.diff(foreign[..., 0].astype(int), axis=1) >= 0)  # once foreign, ever foreign
    lengths = np.bincount(foreign[..., 0].sum(1), minlength=4) / 4000
    np.testing.assert_allclose(lengths, [0.25, 0.25, 0.25, 0.25], atol=0.03)
    np.testing.assert_array_equal(mix(jax.random.key(0), codes, codes + 10, 0.0), codes)


def test_memory_discriminator_is_residual_and_compares_within_groups_of_four():
    image = normal(12, 8, 16, 16, 3)
    module = MemoryDiscriminator(CHANNELS)
    params = filled_by_hand(shapes_of(module, image), scale=2.0)

    def by_hand(params, image):
        def equal(own, x, features, side=3, down=False):
            layer = layers.EqualConv(features, side, down, use_bias="bias" in own)
            return layer.apply({"params": own}, x)

        act = layers.leaky_relu
        x = act(equal(params["from_rgb"], image, CHANNELS[16], 1))
        for r in (16, 8):
            own, below = params[f"block_{r}"], CHANNELS[r // 2]
            y = act(equal(own["conv"], x, CHANNELS[r]))
            y = act(equal(own["down"], y, below, down=True))
            x = (y + equal(own["skip"], x, below, 1, down=True)) / np.sqrt(2)
            assert "bias" not in own["skip"]
        x = layers.minibatch_stddev(x, 4)
        x = act(equal(params["conv_4"], x, CHANNELS[4])).reshape(8, -1)
        x = act(layers.EqualDense(CHANNELS[4]).apply({"params": params["dense"]}, x))
        return layers.EqualDense(1).apply({"params": params["logit"]}, x)[:, 0]

    got = applied(module, params, image)
    assert got.shape == (8,)
    np.testing.assert_allclose(got, compiled(by_hand)(params, image), rtol=1e-3, atol=1e-4)
    image[5] = 0
    changed = np.asarray(applied(module, params, image)) != np.asarray(got)
    assert changed.tolist() == [False] * 4 + [True] * 4


@pytest.mark.parametrize(("layers", "least"), [(4, 24), (5, 48)])
def test_patch_discriminator_refuses_pictures_of_which_nothing_is_left(layers, least):
    module = PatchDiscriminator((2,) * layers)

    def judged(side):
        image = jnp.zeros((1, side, side, 3))
        init = functools.partial(module.init_with_output, update_stats=False)
        return jax.eval_shape(init, jax.random.key(0), image)[0].shape

    assert judged(least) == (1, 1, 1, 1)
    with pytest.raises(UserError, match=rf"{layers} hidden layers .* of {least // 2} px; name few"):
        judged(least // 2)


def test_feature_discriminator_refuses_maps_that_do_not_divide_the_mask():
    maps, mask = (jnp.zeros((1, 30, 30, 2)), jnp.zeros((1, 7, 7, 2))), jnp.zeros((1, 30, 30, 1))
    init = functools.partial(FeatureDiscriminator(2).init, update_stats=False)
    with pytest.raises(UserError, match=r"30 px .* 7 px; use a multiple of 16 px"):
        jax.eval_shape(init, jax.random.key(0), maps, mask)


@pytest.mark.parametrize("conditioned", [False, True])
def test_patch_discriminator_divides_by_the_largest_singular_value(conditioned):
    module = PatchDiscriminator((6, 8, 10, 12))
    image, mask, _ = inputs()
    given = (image, mask) if conditioned else (image,)
    shapes = jax.eval_shape(
        functools.partial(module.init, update_stats=False), jax.random.key(0), *given
    )
    params, stats = (
        filled_by_hand(shapes["params"], scale=3.0),
        filled_by_hand(shapes["batch_stats"]),
    )

    @compiled
    def updated(stats, image):
        def step(stats, _):
            _, renewed = module.apply(
                {"params": params, "batch_stats": stats},
                *given,
                update_stats=True,
                mutable=["batch_stats"],
            )
            return renewed["batch_stats"], None

        return jax.lax.scan(step, stats, None, length=400)[0]

    stats = updated(stats, image)
    got = compiled(functools.partial(module.apply, update_stats=False))(
        {"params": params, "batch_stats": stats}, *given
    )
    x = np.concatenate(given, axis=-1)
    for index, stride in enumerate((2, 2, 2, 1, 1)):
        kernel = np.asarray(params[f"conv_{index}"]["kernel"], np.float64)
        values = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)
        kernel = (kernel / values[0]).astype(np.float32)
        x = layers.conv(x, kernel, stride, [(1, 1), (1, 1)])
        x = np.asarray(x) + np.asarray(params[f"conv_{index}"]["bias"])
        x = np.where((x > 0) | (index == 4), x, 0.2 * x)
    assert got.shape == (2, 2, 2, 1)
    np.testing.assert_allclose(got, x, rtol=1e-2, atol=1e-4)
