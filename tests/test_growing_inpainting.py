"""inpainting.grow_from: a stage 2 that begins with the weights of one at a smaller size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import compiled, filled_by_hand, normal
from small_stages import initial, inpainting_stage, leaves, small_config, snapshot

from gmsrm_jax.methods.gm_srm.encoder_decoder import known_input
from gmsrm_jax.methods.gm_srm.fields import check_growth
from gmsrm_jax.methods.gm_srm.method import GM_SRM, noise
from gmsrm_jax.runtime.errors import UserError


def config_of(size, **fields):
    grow_from = "runs/small" if size > 32 else ""
    settings = {"model__pyramid_from": 32, "inpainting__grow_from": grow_from, **fields}
    return small_config(image_size=size, **settings)


def finished(config):
    """What a smaller stage 2 hands over; average and variables differ, and no weight is zero."""
    state = jax.eval_shape(inpainting_stage(config).init, jax.random.key(0), {})
    return {
        item: filled_by_hand(getattr(state, item), seed, scale=0.8)
        for seed, item in enumerate(("variables", "average", "kept"))
    }


@pytest.fixture(scope="module")
def small():
    config = config_of(32)
    return config, finished(config)


@pytest.fixture(scope="module")
def grown(small):
    """The larger stage's config and first state, with another memory from its stage 1."""
    config = config_of(64)
    given = {"grow_from": small[1], "memory": {"kept": snapshot(config)}}
    return config, jax.device_get(initial(inpainting_stage(config), given))


def halved(x):
    """Means over 2×2 squares, in float64."""
    n, h, w, c = x.shape
    return np.float64(x).reshape(n, h // 2, 2, w // 2, 2, c).mean((2, 4))


def test_a_grown_network_fills_as_the_smaller_one_enlarged(small, grown):
    (config, before), (larger, state) = small, grown
    image = np.random.default_rng(1).uniform(-1, 1, (2, 64, 64, 3)).astype(np.float32)
    mask = np.zeros((2, 64, 64, 1), np.float32)
    mask[0, 10:40, 20:52] = mask[1, 4:64, 30:44] = 1
    maps = {name: normal(k, 2, *shape) for k, (name, shape) in enumerate(noise(larger).items())}
    for item, state_of in (("variables", state.variables), ("average", state.average)):
        whole = GM_SRM.finish(config, before[item], before["kept"])
        shrunk, hole = np.float32(halved(image)), np.float32(halved(mask))
        fill = compiled(lambda *inputs: GM_SRM.fill(config, *inputs))
        given = {name: maps[name] for name in noise(config)}
        found = np.float64(fill(whole, shrunk, hole, given))
        # Between the pixels' centres linearly; what is enlarged is what stands before tanh.
        wanted = np.tanh(jax.image.resize(np.arctanh(found), image.shape, "bilinear"))
        grow = GM_SRM.finish(larger, state_of, state.kept)
        filled = compiled(lambda *inputs: GM_SRM.fill(larger, *inputs))(grow, image, mask, maps)
        assert np.ptp(wanted) > 0.5
        np.testing.assert_allclose(filled, wanted, atol=2e-3)


def test_discriminator_and_memory_go_on_and_what_is_new_can_learn(small, grown):
    (_, before), (config, state) = small, grown
    judge, given = (
        leaves(tree["discriminator"]) for tree in (state.variables, before["variables"])
    )
    assert judge.keys() == given.keys()
    assert all(np.array_equal(judge[name], given[name]) for name in judge)
    memory, old = (tree["network"]["params"]["memory"] for tree in (state.kept, before["kept"]))
    new = snapshot(config)["generator"]["params"]["memory"]
    assert np.array_equal(memory["conv_32"]["kernel"], old["conv_32"]["kernel"])
    assert np.array_equal(memory["conv_64"]["kernel"], new["conv_64"]["kernel"])

    inputs = normal(1, 1, 64, 64, 3), np.ones((1, 64, 64, 1), np.float32)
    maps = {name: normal(2, 1, *shape) for name, shape in noise(config).items()}

    def slope(trained):
        whole = GM_SRM.finish(config, trained, state.kept)
        return GM_SRM.fill(config, whole, *inputs, maps).sum()

    gradient = compiled(jax.grad(slope))(state.average)["network"]["params"]
    for part in (gradient["output_64"], gradient["encoder"]["join_32"]):
        assert np.abs(part["conv"]["kernel"]).max() > 0


@pytest.mark.parametrize("size", [16, 8])
def test_a_shrunk_pixel_is_known_if_all_of_its_square_is(size):
    rng = np.random.default_rng(3)
    image = np.float32(rng.uniform(-1, 1, (2, 16, 16, 3)))
    mask = np.float32(rng.uniform(size=(2, 16, 16, 1)) < 0.3)
    wanted = np.zeros((2, size, size, 4))
    step = 16 // size
    for n, row, column in np.ndindex(2, size, size):
        rows, columns = (slice(step * k, step * k + step) for k in (row, column))
        if mask[n, rows, columns].any():
            wanted[n, row, column, 3] = 1
        else:
            wanted[n, row, column, :3] = np.float64(image[n, rows, columns]).mean((0, 1))
    np.testing.assert_allclose(known_input(jnp.asarray(image), mask, size), wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"image_size": 64}, "has image_size 64, and this config 64; name one of fewer pixels"),
        ({"variant": "gm_csv"}, "has variant = 'gm_csv', and this config 'gm_srm'; use the same"),
        ({"model__stem_skip": True}, "has model.stem_skip = True, and this config False; use"),
        ({"model__pyramid_from": 16}, "has model.pyramid_from = 16, and this config 32; use"),
    ],
)
def test_another_network_is_refused(fields, words):
    smaller = small_config(**{"image_size": 32, "model__pyramid_from": 32, **fields})
    with pytest.raises(UserError, match=r"config\.inpainting\.grow_from: runs/small") as caught:
        check_growth(config_of(64), smaller, stage="inpainting")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "fields", [{"model__pyramid_from": 0}, {"inpainting__begin_from": "facades-128"}]
)
def test_growth_without_a_pyramid_or_with_other_weights_is_refused(fields):
    with pytest.raises(UserError, match=r"grow_from = 'runs/small' needs model\.pyramid_from"):
        config_of(64, **fields)


@pytest.mark.parametrize("size", [4, 24, 64])
def test_a_pyramid_begins_at_a_size_of_the_network(size):
    with pytest.raises(UserError, match=rf"config\.model\.pyramid_from = {size}; use"):
        small_config(image_size=32, model__pyramid_from=size)
