"""What both stages have in common: every switch, frozen parts, the snapshot's distance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import compiled
from small_stages import (
    BATCH,
    SIZE,
    abstract_memory,
    inpainting_stage,
    memory_stage,
    pictures,
    small_config,
    vgg,
)

from gmsrm_jax.methods.gm_srm.distance import FeatureDistance
from gmsrm_jax.methods.gm_srm.network import is_frozen
from gmsrm_jax.methods.variables import joined, parted
from gmsrm_jax.nn.vgg import features
from gmsrm_jax.runtime.pixels import to_bytes, to_signed

ABSTRACT_BATCH = {
    "image": jax.ShapeDtypeStruct((BATCH, SIZE, SIZE, 3), np.uint8),
    "mask": jax.ShapeDtypeStruct((BATCH, SIZE, SIZE, 1), np.uint8),
}


def assert_programs_keep_the_state(stage, state):
    """A state that changes its structure could be neither donated nor restored."""
    for program in stage.programs.values():
        after, scalars = jax.eval_shape(program, state, {**ABSTRACT_BATCH, **stage.constants})
        assert jax.tree.structure(after) == jax.tree.structure(state)
        for a, b in zip(jax.tree.leaves(after), jax.tree.leaves(state), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert all(s.shape == () for s in scalars.values())


@pytest.mark.parametrize(
    "fields",
    [
        {"memory__code_source": "mapping"},
        {"memory__style_mixing": 0.0, "memory__augment": "ada"},
    ],
)
def test_stage_one_runs_with_every_switch(fields):
    config = small_config(**fields)
    assert_programs_keep_the_state(memory_stage(config), abstract_memory(config))


@pytest.mark.parametrize(
    "fields",
    [
        {"variant": "base"},
        {"variant": "gm_bm", "inpainting__perceptual_image": "composite"},
        {"variant": "gm_csv", "model__fusion_kernel": 1, "model__stem_skip": True},
        {"memory__code_source": "mapping", "inpainting__discriminator_mask": True},
    ],
)
def test_stage_two_runs_with_every_switch(fields):
    config = small_config(**fields)
    stage = inpainting_stage(config)
    base = config.variant == "base"
    given = {} if base else {"memory": {"kept": abstract_memory(config).kept}}
    state = jax.eval_shape(stage.init, jax.random.key(0), given)
    assert_programs_keep_the_state(stage, state)
    assert "memory" not in state.variables["network"]["params"]
    frozen = set() if base else {"memory"}
    assert set(state.kept["network"]["params"]) - {"average_code"} == frozen


def test_stage_two_refuses_a_memory_of_another_width():
    config = small_config(variant="gm_bm")
    wider = abstract_memory(small_config(variant="gm_bm", model__channel_max=16)).kept
    with pytest.raises(ValueError, match="do not fit"):
        jax.eval_shape(
            inpainting_stage(config).init, jax.random.key(0), {"memory": {"kept": wider}}
        )


@pytest.mark.parametrize("train_noise_strength", [False, True])
def test_frozen_and_optimised_parts_are_disjoint_and_whole(train_noise_strength):
    layer = {"kernel": 1, "noise_strength": 2, "style": {"bias": 3}}
    params = {"memory": {"conv_4": layer, "constant": 4}, "average_code": 5, "query_4": {"a": 6}}
    optimised, frozen = parted(params, lambda p: is_frozen(p, train_noise_strength))
    own = {"query_4": {"a": 6}}
    strength = {"memory": {"conv_4": {"noise_strength": 2}}}
    assert optimised == ({**own, **strength} if train_noise_strength else own)
    assert ("noise_strength" in frozen["memory"]["conv_4"]) != train_noise_strength
    assert frozen["average_code"] == 5
    assert joined(optimised, frozen) == params


def test_bytes_and_signed_images_are_inverse():
    image = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    signed = to_signed(image)
    assert signed.dtype == np.float32
    assert (signed.min(), signed.max()) == (-1.0, 1.0)
    np.testing.assert_array_equal(to_bytes(signed), image)
    np.testing.assert_array_equal(
        to_bytes(jnp.asarray([-3.0, 0.0039, 0.0040, 7.0])), [0, 128, 128, 255]
    )


def test_feature_distance_is_frechets_between_diagonal_gaussians():
    weights, real = vgg(small_config()), pictures(3, 5)["image"]
    distance = FeatureDistance(weights, real)
    samples = np.asarray(to_signed(pictures(4, 19)["image"])) * 0.8 + 0.1
    moments = []
    for images in (samples, np.asarray(to_signed(real))):
        found = compiled(lambda w, x: features(w, x, ("relu1_1", "relu2_1", "relu3_1")))(
            weights, images
        )
        means = [np.asarray(f, np.float64).mean((1, 2)) for f in found]
        moments.append([(m.mean(0), m.std(0)) for m in means])
    expected = np.mean(
        [
            (np.sum((m - mr) ** 2) + np.sum((s - sr) ** 2)) / np.sum(sr**2)
            for (m, s), (mr, sr) in zip(*moments, strict=True)
        ]
    )
    np.testing.assert_allclose(distance(samples), expected, rtol=1e-3)
    assert distance(np.asarray(to_signed(real))) == pytest.approx(0.0, abs=1e-9)
    assert distance(samples) > 0.01
