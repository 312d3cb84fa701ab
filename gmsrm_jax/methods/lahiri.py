"""A stand-in for Lahiri et al. (CVPR 2020): a frozen generator, and a predictor of its latent.

A network P maps the masked picture to the latent z whose picture fits; the generator G was trained
before, on whole pictures, and stays as it is. The paper's own networks for 256 px and its last loss
are not published, so G is the memory of GM-SRM's stage 1 with codes from z, P is GM-SRM's encoder
with one head, and the loss is the one of the authors' earlier code in a form free of the size. It
also is GM-SRM without what coordinates memory and picture. There is no search for z, no blending
and no map of landmarks.
"""

from collections.abc import Mapping
from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from gmsrm_jax.methods.adversarial_stage import AdversarialStage
from gmsrm_jax.methods.base import (
    Batch,
    Context,
    Method,
    Noise,
    StageSpec,
    TrainState,
    Variables,
    apply,
)
from gmsrm_jax.methods.gm_srm.encoder_decoder import Encoder, GridVector
from gmsrm_jax.methods.gm_srm.fields import Memory, Model, check_memory
from gmsrm_jax.methods.gm_srm.generator import build_generator
from gmsrm_jax.methods.gm_srm.memory import channels_of, code_levels, noise_shapes
from gmsrm_jax.methods.gm_srm.memory_discriminator import build_discriminator
from gmsrm_jax.methods.gm_srm.stage_1 import memory_spec
from gmsrm_jax.methods.stage import steps_of
from gmsrm_jax.nn import losses
from gmsrm_jax.nn.adversarial import Played
from gmsrm_jax.nn.optimizers import Schedule, learning_rate_schedule
from gmsrm_jax.nn.vgg import PERCEPTUAL_LAYERS, features, load_vgg
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.fields import Betas, Layers, Section, setting

_MAPPING, _MEMORY, _AVERAGE = "mapping", "memory", "average_code"


class LahiriFields(Section):
    """The predictor and its training; networks are as wide as config.model says."""

    latent: Literal["z", "w"] = setting(
        "z", "what P gives; w: a correction to the average code, behind the mapping"
    )
    train_generator: bool = setting(
        False, "let the loss move G as well: another reading of GM-SRM's words on this method"
    )
    length_kimg: float = setting(
        1500.0, "length, thousand pictures: about 100 epochs of Paris StreetView", gt=0, local=0.128
    )
    learning_rate: float = setting(2e-4, "of Adam", ge=0)
    betas: Betas = setting((0.5, 0.999), "of Adam")
    schedule: Schedule = setting(
        "half_linear", "of the rate; half_linear: constant, then linear to 0 over the second half"
    )
    ema: float = setting(0.999, "of the weights that fill", ge=0, le=1)
    reconstruction_weight: float = setting(1.0, "of the squared error, hole included", ge=0)
    adversarial_weight: float = setting(
        0.008, "of stage 1's discriminator, frozen: 1 / 122.88, at 64 px the authors' 1 to 1", ge=0
    )
    perceptual_weight: float = setting(0.0, "of the L1 of VGG-19's features", ge=0)
    perceptual_layers: Layers = setting(
        PERCEPTUAL_LAYERS[:3], "of the perceptual loss, in place of VGG-Face's"
    )
    vgg: str = setting("bundled", "or weights/vgg19.safetensors, of `gmsrm convert vgg19`")
    save_every: int = setting(2000, "steps between two checkpoints", gt=0, local=8)
    validate_every: int = setting(2000, "steps between two validations", gt=0, local=8)


class Predictor(nn.Module):
    """P: GM-SRM's encoder, and one vector from the grid of its 4×4 map.

    Attributes:
        channels: resolution to number of channels, from 4 to the image size.
        features: size of the vector.
        code_channels: width of the convolution before it.
        rate: see `GridVector`.
        zero_init: the vector is zero at the start.
        dtype: format of feature maps, see `layers`.
        remat_from: see `layers.rematerialised`.
    """

    channels: dict[int, int]
    features: int
    code_channels: int
    rate: float
    zero_init: bool
    dtype: DTypeLike = jnp.float32
    remat_from: int = 0

    @nn.compact
    def __call__(self, image: jax.Array, mask: jax.Array) -> jax.Array:
        """Maps [N, S, S, 3] in [-1, 1] and mask [N, S, S, 1] to float32 [N, features]."""
        encoded = Encoder(self.channels, self.dtype, self.remat_from, name="encoder")(image, mask)
        head = GridVector(
            self.features,
            self.code_channels,
            zero_init=self.zero_init,
            rate=self.rate,
            name="vector",
        )
        return head(encoded[4])


def build_predictor(config: ConfigDict, dtype: DTypeLike = jnp.float32) -> Predictor:
    """P as a config describes it."""
    model = config.model
    return Predictor(
        channels_of(config),
        model.code_dim,
        model.code_channels,
        model.head_rate,
        config.lahiri.latent == "w",
        dtype,
        model.remat_from,
    )


def synthesise(
    config: ConfigDict,
    generator: dict[str, Any],
    vector: jax.Array,
    dtype: DTypeLike = jnp.float32,
) -> jax.Array:
    """The picture of a latent, without noise.

    Args:
        config: of the run.
        generator: variables with the parts of `generator_of`.
        vector: [N, D]: z, or w less the average code.
        dtype: of feature maps.

    Returns:
        float32 [N, S, S, 3], about [-1, 1].
    """
    module = build_generator(config, dtype)
    if config.lahiri.latent == "z":
        codes = apply(module, generator, None, None, vector, method="codes")
    else:
        w = generator["params"][_AVERAGE][None, :] + vector
        codes = jnp.repeat(w[:, None, :], code_levels(config.image_size), axis=1)
    silent = [jnp.zeros(shape) for shape in noise_shapes(1, sorted(module.channels))]
    picture: jax.Array = apply(module, generator, codes, silent, method="synthesise")
    return picture


def generator_of(config: ConfigDict, trained: Any, code_average: jax.Array) -> dict[str, Any]:
    """Variables of G: the memory, with what `lahiri.latent` needs in front of it.

    Args:
        config: of the run.
        trained: parameters of stage 1's generator.
        code_average: mean of the codes that stage 1 saw, [D].
    """
    front = {_MAPPING: trained[_MAPPING]}
    if config.lahiri.latent == "w":
        front = {_AVERAGE: code_average}
    return {"params": {_MEMORY: trained[_MEMORY], **front}}


def check(config: ConfigDict) -> None:
    """Refuses a stage 1 whose codes do not come from z.

    Raises:
        UserError: names the field, its value and what it can be.
    """
    if config.memory.code_source != "mapping":
        raise UserError(
            f"config.memory.code_source = {config.memory.code_source!r}; the method lahiri "
            "predicts what a mapping network takes, set it to 'mapping'"
        )
    check_memory(config)


def _drawn_predictor(config: ConfigDict, key: jax.Array) -> dict[str, Any]:
    size = config.image_size
    image, mask = jnp.zeros((1, size, size, 3)), jnp.zeros((1, size, size, 1))
    return dict(build_predictor(config).init(key, image, mask))


def init(config: ConfigDict, key: jax.Array) -> Variables:
    """Drawn weights of P and of G."""
    keys = jax.random.split(key)
    module, code = build_generator(config), jnp.zeros((1, config.model.code_dim))
    silent = [jnp.zeros(shape) for shape in noise_shapes(1, sorted(module.channels))]
    trained = module.init(keys[1], None, None, code, silent)["params"]
    return {
        "predictor": _drawn_predictor(config, keys[0]),
        "generator": generator_of(config, trained, code[0]),
    }


def fill(config: ConfigDict, variables: Variables, image: Any, mask: Any, noise: Noise) -> Any:
    """G(P(known pixels)) in float32, clipped to [-1, 1]."""
    del noise
    vector = apply(build_predictor(config), variables["predictor"], image, mask)
    return jnp.clip(synthesise(config, variables["generator"], vector), -1.0, 1.0)


class PredictorStage(AdversarialStage):
    """Trains P through a frozen G, before a frozen discriminator.

    The state's parts: variables {predictor}, average {predictor}, kept {generator, discriminator};
    with `lahiri.train_generator` the generator stands beside the predictor.
    """

    salt = 2

    def __init__(self, config: ConfigDict, context: Context):
        """Prepares the stage; reads the VGG if it is asked for.

        Args:
            config: the run's config.
            context: what the data say.

        Raises:
            UserError: lahiri.vgg cannot be used.
        """
        fields = config.lahiri
        total = steps_of(fields.length_kimg, config.batch_size)
        self.schedule = learning_rate_schedule(fields.schedule, fields.learning_rate, total)
        optimizer = optax.adam(self.schedule, *fields.betas)
        super().__init__("inpainting", LAHIRI, config, context, total, fields, optimizer)
        self.predictor = build_predictor(config, self.dtype)
        self.discriminator = build_discriminator(config, self.dtype)
        self.layers = tuple(fields.perceptual_layers)
        if fields.perceptual_weight:
            self.constants["vgg"] = load_vgg(fields.vgg, self.layers, field="lahiri.vgg")

    def init(self, key: jax.Array, given: Mapping[str, Any]) -> TrainState:
        """Draws P, and takes the rest from stage 1.

        Args:
            key: random key.
            given: {"memory": {"variables", "kept"}} of stage 1's last state: G is its snapshot.
        """
        memory = given["memory"]
        kept = memory["kept"]
        generator = generator_of(self.config, kept["generator"]["params"], kept["code_average"])
        frozen = {"discriminator": memory["variables"]["discriminator"]}
        variables = {"predictor": _drawn_predictor(self.config, key)}
        (variables if self.fields.train_generator else frozen)["generator"] = generator
        return self.begin(variables, {}, kept=frozen)

    def _loss(
        self, state: TrainState, batch: Batch, variables: Variables, part: Batch
    ) -> tuple[jax.Array, Played]:
        """‖Î - I‖² / size + 0.008 · softplus(-D(Î)), of the whole picture; Î is not clipped."""
        fields, image, networks = self.fields, part["image"], {**state.kept, **variables}
        vector = apply(self.predictor, networks["predictor"], image, part["mask"])
        raw = synthesise(self.config, networks["generator"], vector, self.dtype)
        terms = {"reconstruction": losses.mean_squared_loss(raw, image)}
        if fields.adversarial_weight:
            logits = apply(self.discriminator, networks["discriminator"], raw)
            terms["adversarial"] = losses.logistic_generator_loss(logits)
        if fields.perceptual_weight:
            seen, target = (
                features(batch["vgg"], x, self.layers, self.dtype) for x in (raw, image)
            )
            terms["perceptual"] = losses.perceptual_loss(seen, target)
        return self._played(terms, told={"optimizer/learning_rate": self.schedule(state.step)})


def stages(config: ConfigDict) -> tuple[StageSpec, ...]:
    """GM-SRM's stage 1, then P."""
    memory = memory_spec(config)
    predictor = StageSpec(
        "inpainting",
        lambda context: PredictorStage(config, context),
        after={memory.name: ("variables", "kept")},
    )
    return (memory, predictor)


def finish(config: ConfigDict, average: Variables, kept: dict[str, Any]) -> Variables:
    """P and G; the discriminator does not fill."""
    del config
    return {name: {**kept, **average}[name] for name in ("predictor", "generator")}


def frozen(config: ConfigDict, path: tuple[str, ...]) -> bool:
    """Whether a weight is G's, which stage 1 trained."""
    return path[0] == "generator" and not config.lahiri.train_generator


LAHIRI = Method(
    name="lahiri",
    title="Lahiri et al.",
    priors="A + B",
    about="A stand-in for Lahiri et al., CVPR 2020: a network guesses the latent of a picture from "
    "its known pixels, and a frozen generator, here GM-SRM's memory, draws it.",
    fill=fill,
    sections={"model": Model, "memory": Memory, "lahiri": LahiriFields},
    # Without a picture that a code comes from, there is none to reconstruct.
    shared={"memory.code_source": "mapping", "memory.reconstruction_weight": 0.0},
    network_fields=(
        "model.channel_base",
        "model.channel_max",
        "model.code_dim",
        "model.code_channels",
        "model.head_rate",
        "memory.mapping_layers",
        "lahiri.latent",
    ),
    lengths=("lahiri.length_kimg",),
    note="Lahiri et al. is a stand-in: the generator is GM-SRM's memory, for the paper's own "
    "networks at this size are not published.",
    check=check,
    stages=stages,
    init=init,
    finish=finish,
    frozen=frozen,
)
