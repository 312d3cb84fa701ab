"""GM-SRM behind the interface of a method: what fills, what is frozen, and its two stages."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from gmsrm_jax.methods.base import Method, Noise, Row, StageSpec, Variables, apply
from gmsrm_jax.methods.gm_srm.fields import (
    FIRST_MODEL,
    NETWORK_FIELDS,
    SECTIONS,
    VARIANTS,
    check,
)
from gmsrm_jax.methods.gm_srm.growth import growth
from gmsrm_jax.methods.gm_srm.memory import noise_shapes
from gmsrm_jax.methods.gm_srm.network import (
    NETWORK,
    asked_resolutions,
    build_network,
    has_no_effect,
    is_frozen,
)
from gmsrm_jax.methods.gm_srm.stage_1 import memory_spec
from gmsrm_jax.methods.gm_srm.stage_2 import InpaintingStage
from gmsrm_jax.methods.variables import joined


def noise(config: ConfigDict) -> dict[str, tuple[int, ...]]:
    """ε of Eq. 8, by name: noise_4, noise_8_0, noise_8_1, …, [r, r, 1] each; none for `base`."""
    if not VARIANTS[config.variant].memory:
        return {}
    shapes = [shape[1:] for shape in noise_shapes(1, asked_resolutions(config))]
    return {
        (f"noise_{shape[0]}" if k < 0 else f"noise_{shape[0]}_{k % 2}"): shape
        for k, shape in enumerate(shapes, -1)
    }


def init(config: ConfigDict, key: jax.Array) -> Variables:
    """The weights that stage 2 begins with, but for what stage 1 learns."""
    size = config.image_size
    image, mask = jnp.zeros((1, size, size, 3)), jnp.zeros((1, size, size, 1))
    maps = [jnp.zeros(shape) for shape in noise_shapes(1, asked_resolutions(config))]
    return {NETWORK: dict(build_network(config).init(key, image, mask, maps))}


def fill(
    config: ConfigDict,
    variables: Variables,
    image: Any,
    mask: Any,
    noise_maps: Noise,
    dtype: DTypeLike = jnp.float32,
) -> Any:
    """Algorithm 1."""
    maps = [noise_maps[name] for name in noise(config)]
    return apply(build_network(config, dtype), variables[NETWORK], image, mask, maps).image


def finish(config: ConfigDict, average: Variables, kept: dict[str, Any]) -> Variables:
    """The averaged weights of stage 2, with the frozen memory in its place."""
    del config
    # Of the variant without a memory nothing is frozen, and a checkpoint holds no empty dicts.
    memory = kept.get(NETWORK, {}).get("params", {})
    return {NETWORK: {"params": joined(average[NETWORK]["params"], memory)}}


def frozen(config: ConfigDict, path: tuple[str, ...]) -> bool:
    """Whether a weight is the memory's, which stage 2 does not move."""
    return is_frozen(path[2:], config.inpainting.train_noise_strength)


def stages(config: ConfigDict) -> tuple[StageSpec, ...]:
    """Stage 1 where a memory is needed and none is brought, then stage 2."""
    begin_from = config.inpainting.begin_from
    memory = memory_spec(config)
    trained_before = VARIANTS[config.variant].memory and not begin_from
    inpainting = StageSpec(
        "inpainting",
        lambda context: InpaintingStage(GM_SRM, config, context),
        after={memory.name: ("kept",)} if trained_before else {},
        begin_from=begin_from,
        begin_from_field="config.inpainting.begin_from",
        grow_from=growth(config, "inpainting", "variables", "average", "kept"),
    )
    return (memory, inpainting) if trained_before else (inpainting,)


GM_SRM = Method(
    name="gm_srm",
    title="GM-SRM",
    priors="A + B",
    about="GM-SRM (Feng et al., arXiv 2110.00261) asks a generative memory, trained on whole "
    "pictures, for what an encoder-decoder does not see.",
    fill=fill,
    takes_dtype=True,
    sections=SECTIONS,
    variants={
        name: Row(variant.title, "A + B" if variant.memory else "A")
        for name, variant in VARIANTS.items()
    },
    network_fields=NETWORK_FIELDS,
    before={f"model.{name}": value for name, value in FIRST_MODEL.items()},
    check=check,
    lengths=("inpainting.length_kimg",),
    stages=stages,
    init=init,
    noise_shapes=noise,
    finish=finish,
    frozen=frozen,
    gone=has_no_effect,
)
