"""The network of stage 2: sizes, the paper's equations, the hole's polarity, its beginning."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_networks import (
    CHANNELS,
    LEVELS,
    SIZE,
    abstract,
    abstract_inputs,
    applied,
    compiled,
    filled_by_hand,
    inputs,
    normal,
    shapes_of,
    small,
    weights_for,
)

from gmsrm_jax.methods.gm_srm.encoder_decoder import DecoderBlock, Encoder, GridVector
from gmsrm_jax.methods.gm_srm.fields import VARIANTS
from gmsrm_jax.methods.gm_srm.generator import MemoryGenerator
from gmsrm_jax.methods.gm_srm.memory import (
    GenerativeMemory,
    MappingNetwork,
    channel_table,
    code_levels,
    memory_resolutions,
    noise_shapes,
)
from gmsrm_jax.methods.gm_srm.memory_discriminator import MemoryDiscriminator
from gmsrm_jax.methods.gm_srm.network import Fusion, InpaintingNetwork
from gmsrm_jax.nn import layers
from gmsrm_jax.nn.losses import kl_loss
from gmsrm_jax.nn.patch_discriminator import PatchDiscriminator
from gmsrm_jax.nn.smooth_fill import smooth_fill

MEMORY_VARIANTS = ("gm_bm", "gm_csv", "gm_srm")


def millions(tree: Any, *prefixes: str) -> float:
    leaves = [
        leaf
        for name, part in tree.items()
        if not prefixes or name.startswith(prefixes)
        for leaf in jax.tree.leaves(part)
    ]
    return sum(int(np.prod(leaf.shape)) for leaf in leaves) / 1e6


def test_paper_scale_has_the_known_parameter_counts():
    channels = channel_table(256, 16384, 512)
    assert channels == {4: 512, 8: 512, 16: 512, 32: 512, 64: 256, 128: 128, 256: 64}
    network = shapes_of(InpaintingNetwork(channels), *abstract_inputs(256))
    assert millions(network, "encoder") == pytest.approx(18.9, abs=0.1)
    assert round(millions(network, "decoder"), 1) == 33.8
    assert round(millions(network, "fusion"), 1) == 20.4
    noise = [abstract(*shape) for shape in noise_shapes(2, sorted(channels))]
    memory = shapes_of(GenerativeMemory(channels), abstract(2, 7, 512), noise)
    assert round(millions(memory), 2) == 22.67
    mapping = shapes_of(MappingNetwork(512, 8), abstract(2, 512))
    assert round(millions(mapping), 2) == 2.10
    image = abstract(4, 256, 256, 3)
    assert round(millions(shapes_of(MemoryDiscriminator(channels), image)), 2) == 24.00
    patch = PatchDiscriminator()
    logits, variables = jax.eval_shape(
        lambda key, x: patch.init_with_output(key, x, update_stats=False), jax.random.key(0), image
    )
    assert logits.shape == (4, 30, 30, 1)
    assert round(millions(variables["params"]), 2) == 2.76


@pytest.mark.parametrize("size", [32, 64, 128, 256])
@pytest.mark.parametrize("source", ["encoder", "mapping"])
def test_every_size_variant_and_code_source_fits_together(size, source):
    channels = channel_table(size, 8 * size, 16)
    levels = [2**k for k in range(2, 12) if 2**k < size]
    assert memory_resolutions(size) == levels
    assert code_levels(size) == len(levels) + 1
    generator = MemoryGenerator(channels, source, code_dim=8, code_channels=4)
    image, mask, _ = abstract_inputs(size)
    noise = [abstract(*shape) for shape in noise_shapes(2, sorted(channels))]
    assert len(noise) == 2 * len(channels) - 1
    made, pretrained = jax.eval_shape(
        generator.init_with_output, jax.random.key(0), image, mask, abstract(2, 8), noise
    )
    assert made.shape == (2, size, size, 3)
    for variant in VARIANTS:
        network = InpaintingNetwork(
            channels, variant, code_dim=8, code_channels=4, code_source=source
        )
        result, variables = jax.eval_shape(
            network.init_with_output, jax.random.key(0), *abstract_inputs(size)
        )
        assert result.image.shape == (2, size, size, 3)
        asked = len(levels) + VARIANTS[variant].memory  # once more over the raw input
        assert result.mean.shape == result.log_variance.shape == (2, asked)
        # What stage 1 hands over has the same shapes under the same names.
        given, taken = pretrained["params"], variables["params"]
        shared = ("memory", "encoder", "query_4") if source == "encoder" else ("memory",)
        for part in shared:
            if part in taken:
                own = {name: given[part][name] for name in taken[part]}
                assert jax.tree.map(jnp.shape, own) == jax.tree.map(jnp.shape, taken[part])
        assert ("average_code" in taken) == (source == "mapping" and variant != "base")


def test_variants_have_the_parts_of_table_four():
    names = {v: set(shapes_of(small(v), *abstract_inputs(SIZE))) for v in VARIANTS}
    base = {"encoder", "decoder_4", "decoder_8", "decoder_16", "output"}
    assert names["base"] == base
    memory = {"memory", "fusion_4", "fusion_8", "fusion_16", "fusion_32", "query_4"}
    statistics = {"statistics_4", "statistics_8", "statistics_16", "statistics_32"}
    assert names["gm_bm"] == base | memory
    assert names["gm_csv"] == base | memory | statistics
    assert names["gm_srm"] == base | memory | statistics | {"query_8", "query_16", "query_32"}


def test_grid_vector_keeps_the_grid():
    module = GridVector(5, channels=6, grid=2, rate=0.0)
    x = normal(3, 2, 4, 4, 3)
    params = weights_for(module, x)
    y = (
        layers.conv(x, params["conv"]["conv"]["kernel"])
        + params["conv"]["conv"]["bias"][None, None, None]
    )
    y = np.asarray(y, np.float64)
    y = np.where(y > 0, y, 0.2 * y).reshape(2, 2, 2, 2, 2, 6).mean((2, 4)).reshape(2, 24)
    expected = y @ np.asarray(params["dense"]["kernel"]) + np.asarray(params["dense"]["bias"])
    np.testing.assert_allclose(applied(module, params, x), expected, rtol=1e-3, atol=1e-4)


def residual(params: Any, x: jax.Array) -> jax.Array:
    """x + CA(ReLU(IN(conv(x)))), the end of Eq. 2 and 6."""
    y = jax.nn.relu(layers.instance_norm(convolved(params["conv"], x)))
    return x + layers.ChannelAttention().apply({"params": params["attention"]}, y)


def convolved(params: Any, x: jax.Array, stride: int = 1) -> jax.Array:
    y = layers.conv(x, params["conv"]["kernel"], stride, [(1, 1), (1, 1)])
    if "bias" not in params["conv"]:  # in front of an instance norm
        return y
    return y + params["conv"]["bias"][None, None, None, :]


def test_encoder_is_equation_2_on_the_known_pixels_and_the_mask():
    image, mask, _ = inputs()
    encoder = Encoder(CHANNELS)
    params = weights_for(encoder, image, mask)

    def by_hand(params, image, mask):
        x = convolved(params["stem"], jnp.concatenate([image * (1 - mask), mask], -1))
        found = {SIZE: x}
        for r in (16, 8, 4):
            x = jax.nn.relu(layers.instance_norm(convolved(params[f"down_{r}"], x, 2)))
            x = found[r] = residual(params[f"block_{r}"], x)
        return found

    got, expected = applied(encoder, params, image, mask), compiled(by_hand)(params, image, mask)
    assert set(got) == {4, 8, 16, 32}
    for r, feature in got.items():
        assert feature.shape == (2, r, r, CHANNELS[r])
        np.testing.assert_allclose(feature, expected[r], rtol=1e-4, atol=1e-5)


def test_decoder_block_is_equation_6():
    parts = [normal(4, 2, 8, 8, 3), normal(5, 2, 8, 8, 5)]
    block = DecoderBlock(6)
    params = weights_for(block, parts)

    def by_hand(params, parts):
        x = layers.bilinear_upsample(jnp.concatenate(parts, -1))
        return residual(
            params["block"], jax.nn.relu(layers.instance_norm(convolved(params["up"], x)))
        )

    got = applied(block, params, parts)
    assert got.shape == (2, 16, 16, 6)
    np.testing.assert_allclose(got, compiled(by_hand)(params, parts), rtol=1e-4, atol=1e-5)


@functools.cache
def drawn(variant: str, source: str) -> tuple[InpaintingNetwork, Any]:
    """A network with normal weights everywhere, none of them zero."""
    network = small(variant, code_source=source)
    return network, weights_for(network, *inputs())


@pytest.mark.parametrize(
    ("variant", "source"),
    [("base", "encoder"), ("gm_bm", "mapping"), ("gm_csv", "encoder"), ("gm_srm", "encoder")],
)
def test_output_depends_on_known_pixels_and_mask_but_not_on_the_hole(variant, source):
    network, params = drawn(variant, source)
    image, mask, noise = inputs()
    fill = compiled(network.apply)
    result = fill({"params": params}, image, mask, noise)
    assert result.image.shape == image.shape
    assert np.all(np.abs(result.image) <= 1)  # tanh
    assert np.std(result.image) > 0.05
    inside = np.where(mask > 0, np.float32(0.9), image)
    for got, kept in zip(fill({"params": params}, inside, mask, noise), result, strict=True):
        np.testing.assert_array_equal(got, kept)
    outside = image.copy()
    outside[:, 2, 2] += 0.5
    assert np.all(
        np.any(fill({"params": params}, outside, mask, noise).image != result.image, (1, 2, 3))
    )
    other = fill({"params": params}, np.zeros_like(image), mask, noise).image
    wider = fill({"params": params}, np.zeros_like(image), np.ones_like(mask), noise).image
    assert np.any(other != wider)  # a black pixel is not a hole
    silent = fill({"params": params}, image, mask, [0 * n for n in noise]).image
    assert np.any(silent != result.image) == VARIANTS[variant].memory


def test_network_refuses_a_mask_of_another_shape():
    network, params = drawn("base", "encoder")
    image, mask, noise = inputs()
    with pytest.raises(ValueError, match="mask"):
        network.apply({"params": params}, image, mask[..., 0], noise)
    with pytest.raises(ValueError, match="size 32"):
        network.apply({"params": params}, image[:, :16, :16], mask[:, :16, :16], noise)


def test_conditional_noise_is_mean_plus_deviation_times_noise():
    """Eq. 8 and 9: gm_csv with fixed statistics is gm_bm whose noise was shifted and scaled."""
    network, params = drawn("gm_csv", "encoder")
    image, mask, noise = inputs()
    params = {**params}
    given = {4: (0.7, -1.0), 8: (-0.4, 0.6), 16: (0.1, -25.0), 32: (0.0, 0.3)}
    for r, values in given.items():
        dense = params[f"statistics_{r}"]["dense"]
        fixed = {"kernel": 0 * dense["kernel"], "bias": jnp.float32(values) / network.head_rate}
        params[f"statistics_{r}"] = {**params[f"statistics_{r}"], "dense": fixed}
    conditional = compiled(network.apply)({"params": params}, image, mask, noise)
    moments = {r: 4 * np.tanh(np.float32(values) / 4) for r, values in given.items()}
    expected = np.stack(list(moments.values()))
    np.testing.assert_allclose(conditional.mean, [expected[:, 0]] * 2, rtol=1e-5)
    np.testing.assert_allclose(conditional.log_variance, [expected[:, 1]] * 2, rtol=1e-5)
    shifted = []
    for n in noise:
        mean, log_variance = moments[n.shape[1]]
        shifted.append(mean + np.exp(0.5 * log_variance, dtype=np.float32) * n)
    plain = {k: v for k, v in params.items() if not k.startswith("statistics")}
    expected = compiled(small("gm_bm").apply)({"params": plain}, image, mask, shifted)
    np.testing.assert_allclose(conditional.image, expected.image, rtol=1e-3, atol=1e-4)
    assert not np.any(expected.mean) and not np.any(expected.log_variance)


def test_noise_statistics_of_algorithm_1_see_the_encoder_only():
    encoded, decoded = normal(20, 2, 8, 8, 8), normal(21, 2, 8, 8, 8)
    for kind, depends in (("encoder_decoder", True), ("encoder", False)):
        network = small("gm_csv", noise_statistics=kind)
        params = weights_for(network, *inputs())
        ask = compiled(functools.partial(network.apply, method="noise_moments"), static_argnums=1)
        moments = [ask({"params": params}, 8, encoded, d) for d in (decoded, 0 * decoded)]
        assert np.any(moments[0][0] != moments[1][0]) == depends
        assert np.any(moments[0][1] != moments[1][1]) == depends


def test_codes_are_progressive_in_gm_srm_only():
    """Eq. 7: c^i = f_c^i(F_D^(i-1)) + c^(i-1) with weights of its own at every level."""
    feature, code = normal(22, 2, 8, 8, 8), normal(23, 2, 8)
    for variant, levels in (("gm_srm", (4, 8)), ("gm_csv", (4,))):
        network, params = drawn(variant, "encoder")
        ask = functools.partial(network.apply, {"params": params}, method="query")
        for r in levels:
            own = GridVector(8, 4).apply({"params": params[f"query_{r}"]}, feature)
            before = None if r == 4 else code
            expected = own if r == 4 else code + own
            np.testing.assert_allclose(ask(r, feature, before), expected, rtol=1e-5, atol=1e-6)
        if variant == "gm_csv":
            np.testing.assert_array_equal(ask(8, feature, code), code)


def test_stem_skip_widens_the_output_convolution_only():
    given = abstract_inputs(SIZE)
    plain, skipping = (shapes_of(small("gm_srm", stem_skip=s), *given) for s in (False, True))
    assert skipping["output"]["conv"]["kernel"].shape == (3, 3, 3 * CHANNELS[SIZE], 3)
    assert plain["output"]["conv"]["kernel"].shape == (3, 3, 2 * CHANNELS[SIZE], 3)
    assert plain.pop("decoder_16") == skipping.pop("decoder_16")


@pytest.fixture(scope="module")
def beginnings():
    """The variants with a memory and the mapping source, as `init` draws them from one key.

    The key's kind is one that compiles fast; noise strengths, which start at 0, are set to 0.5.
    """
    networks = {variant: small(variant) for variant in MEMORY_VARIANTS}
    networks["mapping"] = small("gm_srm", code_source="mapping")

    @compiled
    def init(key):
        return {name: net.init(key, *inputs())["params"] for name, net in networks.items()}

    params = init(jax.random.key(0, impl="unsafe_rbg"))

    def louder(path, leaf):
        return leaf + 0.5 if path[-1].key == "noise_strength" else leaf

    return networks, jax.tree_util.tree_map_with_path(louder, params)


def test_variants_give_the_same_filling_at_the_beginning(beginnings):
    networks, params = beginnings
    image, mask, noise = inputs()

    def fill(name, params, noise):
        return compiled(networks[name].apply)({"params": params}, image, mask, noise)

    results = {name: fill(name, params[name], noise) for name in MEMORY_VARIANTS}
    for name in MEMORY_VARIANTS[:2]:
        np.testing.assert_allclose(results[name].image, results["gm_srm"].image, atol=1e-6)
        for part, weights in params[name].items():
            jax.tree.map(np.testing.assert_array_equal, weights, params["gm_srm"][part])
    assert not np.any(results["gm_srm"].mean) and not np.any(results["gm_srm"].log_variance)
    assert np.std(results["gm_srm"].image) > 0.05
    # The same comparison sees a code or noise that differs.
    dense = params["gm_srm"]["query_8"]["dense"]
    moved = {**params["gm_srm"]["query_8"], "dense": {**dense, "bias": dense["bias"] + 1.0}}
    other = fill("gm_srm", {**params["gm_srm"], "query_8": moved}, noise)
    assert np.abs(other.image - results["gm_srm"].image).max() > 1e-4
    other = fill("gm_srm", params["gm_srm"], [-n for n in noise])
    assert np.abs(other.image - results["gm_srm"].image).max() > 1e-4


def test_fusions_pass_the_memory_through_at_the_beginning(beginnings):
    networks, params = beginnings
    network, weights = networks["gm_srm"], params["gm_srm"]
    code, (_, _, noise) = normal(30, 2, 8), inputs()
    encoded = {r: normal(r, 2, r, r, CHANNELS[r]) for r in LEVELS}

    @compiled
    def both(weights):
        memory = GenerativeMemory(CHANNELS).bind({"params": weights["memory"]})
        bound = network.bind({"params": weights})
        asked, pure, found = None, None, []
        for r, maps in zip(LEVELS, (noise[:1], noise[1:3], noise[3:5]), strict=True):
            asked = bound.ask_memory(asked, encoded[r], code, maps)
            pure = memory.start(2) if pure is None else memory.first(pure, code, maps[0])
            pure = memory.second(pure, code, maps[-1])
            found.append((asked, pure))
        return found

    for asked, pure in both(weights):
        np.testing.assert_allclose(asked, pure, rtol=1e-5, atol=1e-6)
        assert np.std(pure) > 0.1
    changed = {**weights, "fusion_4": filled_by_hand(weights["fusion_4"])}
    asked, pure = both(changed)[0]
    assert np.abs(asked - pure).max() > 0.1


@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("side", [1, 3])
def test_fusion_starts_with_nothing_of_the_encoder(side, rescale):
    memory, encoded = normal(31, 2, 8, 8, 5), normal(32, 2, 8, 8, 5)
    module = Fusion(side, rescale)
    params = module.init(jax.random.key(0), memory, encoded)["params"]
    assert params["kernel"].shape == (side, side, 10, 5)
    np.testing.assert_array_equal(module.apply({"params": params}, memory, encoded), memory)


@pytest.mark.parametrize("side", [1, 3])
def test_fusion_is_a_convolution_and_rescaled_as_large_as_the_memory(side):
    """Rescaled, gains do not multiply from level to level, whatever the kernel has become."""
    memory = normal(34, 2, 8, 8, 5) * np.float32([3.0, 0.2])[:, None, None, None]
    encoded = normal(35, 2, 8, 8, 5)
    params = weights_for(Fusion(side), memory, encoded)
    joined = np.concatenate([memory, encoded], -1).astype(np.float64)
    padded = np.pad(joined, [(0, 0), (side // 2,) * 2, (side // 2,) * 2, (0, 0)])
    kernel = np.asarray(params["kernel"], np.float64)
    plain = np.asarray(params["bias"], np.float64) + sum(
        padded[:, i : i + 8, j : j + 8] @ kernel[i, j] for i in range(side) for j in range(side)
    )

    def size(x):
        return np.sqrt(np.square(np.asarray(x, np.float64)).mean((1, 2, 3), keepdims=True))

    joined = Fusion(side).apply({"params": params}, memory, encoded)
    np.testing.assert_allclose(joined, plain, rtol=1e-4, atol=1e-5)
    rescaled = Fusion(side, rescale=True)
    got = rescaled.apply({"params": params}, memory, encoded)
    np.testing.assert_allclose(got, plain * size(memory) / size(plain), rtol=1e-4, atol=1e-5)
    louder = jax.tree.map(lambda leaf: 50.0 * leaf, params)
    again = rescaled.apply({"params": louder}, memory, encoded)
    np.testing.assert_allclose(again, got, rtol=1e-4, atol=1e-5)


def test_first_code_is_the_average_code_with_the_mapping_source(beginnings):
    networks, params = beginnings
    weights = {**params["mapping"], "average_code": jnp.arange(8.0)}
    feature = normal(33, 2, 4, 4, 8)
    ask = functools.partial(networks["mapping"].apply, method="query")
    np.testing.assert_array_equal(
        ask({"params": weights}, 4, feature, None), np.broadcast_to(np.arange(8.0), (2, 8))
    )
    moved = weights_for(GridVector(8, 4), feature)
    own = GridVector(8, 4).apply({"params": moved}, feature)
    np.testing.assert_allclose(
        ask({"params": {**weights, "query_4": moved}}, 4, feature, None),
        np.arange(8.0) + np.asarray(own),
        rtol=1e-5,
    )


def test_memory_is_asked_at_full_size_over_the_raw_input():
    """Algorithm 1's last iteration: a fusion of C(S) and the four channels of the input."""
    image, mask, noise = inputs()
    whole, short = small("gm_srm"), small("gm_srm", memory_at_full_size=False)
    params = weights_for(whole, image, mask, noise)
    fewer = shapes_of(short, image, mask, noise)
    added = set(params) - set(fewer)
    assert added == {f"fusion_{SIZE}", f"query_{SIZE}", f"statistics_{SIZE}"}
    assert set(params["memory"]) - set(fewer["memory"]) == {f"up_{SIZE}", f"conv_{SIZE}"}
    channels = CHANNELS[SIZE]
    assert params[f"fusion_{SIZE}"]["kernel"].shape == (3, 3, channels + 4, channels)
    assert params["output"]["conv"]["kernel"].shape[2] == 2 * channels
    # Nothing but the fusion at full size sees the input here, and only its known pixels.
    blind = jax.tree.map(np.zeros_like, {k: v for k, v in params.items() if k.startswith("enc")})
    fill = functools.partial(applied, whole, {**params, **blind})
    first = fill(image, mask, noise).image
    moved = fill(image + 0.2 * (1 - mask), mask, noise).image
    assert np.abs(moved - first).max() > 1e-3
    np.testing.assert_array_equal(fill(image + 0.2 * mask, mask, noise).image, first)


@pytest.mark.parametrize("limit", ["soft", "clip"])
def test_limited_statistics_are_pulled_back_from_far_out_only_by_the_soft_limit(limit):
    network, feature = small("gm_srm", noise_limit=limit), normal(40, 2, 8, 8, CHANNELS[8])
    params = shapes_of(network, *inputs())
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), params)

    def divergence(z):
        bias = jnp.full((2,), z) / (0.1 if network.head_rate else 1.0)
        dense = {**params["statistics_8"]["dense"], "bias": bias}
        weights = {**params, "statistics_8": {**params["statistics_8"], "dense": dense}}
        moments = network.apply({"params": weights}, 8, feature, feature, method="noise_moments")
        return kl_loss(*(m[:, None] for m in moments), "mean"), moments

    (mean, log_variance) = divergence(2.0)[1]
    expected = 4 * np.tanh(0.5) if limit == "soft" else 2.0
    np.testing.assert_allclose([mean[0], log_variance[0]], expected, rtol=1e-5)
    for z, inward in ((12.0, True), (-12.0, False)):
        slope = jax.grad(lambda z: divergence(z)[0])(z)
        if limit == "soft":
            assert (slope > 0) == inward and abs(slope) > 1e-3
    # Behind the clip only the mean, which has no limit there, is pulled.
    variance_slope = jax.grad(lambda z: divergence(z)[1][1].sum())(50.0)
    assert (variance_slope == 0.0) == (limit == "clip") or limit == "soft"


def test_heads_are_equalised_or_plain_and_pool_large_maps_first():
    feature = normal(41, 2, 32, 32, 6)
    plain, equal = GridVector(8, 4, rate=0.0, pool=0), GridVector(8, 4, rate=0.1, pool=0)
    params = weights_for(plain, feature)
    dense = params["dense"]
    fan_in = dense["kernel"].shape[0]
    scaled = {"kernel": dense["kernel"] * np.sqrt(fan_in) / 0.1, "bias": dense["bias"] / 0.1}
    np.testing.assert_allclose(
        equal.apply({"params": {**params, "dense": scaled}}, feature),
        plain.apply({"params": params}, feature),
        rtol=1e-4,
        atol=1e-5,
    )
    pooled = feature.reshape(2, 16, 2, 16, 2, 6).mean((2, 4))
    np.testing.assert_allclose(
        GridVector(8, 4, rate=0.0, pool=16).apply({"params": params}, feature),
        plain.apply({"params": params}, pooled),
        rtol=1e-4,
        atol=1e-5,
    )


def test_smooth_residual_is_added_as_it_is_or_before_tanh():
    image, mask, noise = inputs()
    filling = np.asarray(smooth_fill(image, mask), np.float64)
    for residual in ("linear", "tanh"):
        network = small("base", smooth_skip=True, smooth_residual=residual)
        params = weights_for(network, image, mask, noise)
        raw = applied(small("base"), params, image, mask, noise).image
        raw = np.arctanh(np.asarray(raw, np.float64))
        wanted = filling + raw
        if residual == "tanh":
            wanted = np.tanh(np.arctanh(0.98 * filling) + raw)
        got = applied(network, params, image, mask, noise).image
        np.testing.assert_allclose(got, wanted, rtol=1e-3, atol=2e-3)
