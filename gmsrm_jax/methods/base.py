"""What a method of inpainting supplies, and the state that its stages evolve.

A method is one `Method`, made in a file of its own and named in `methods.METHODS`. Everything above
this room asks a `Method` or a `Filler` (filler.py) and never which method it is.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import flax.linen as nn
import flax.struct
import jax
import numpy as np
from ml_collections import ConfigDict

from gmsrm_jax.runtime.fields import Section

Batch = Mapping[str, Any]
Scalars = dict[str, jax.Array]
# {network: {"params": …, "batch_stats": …}}: weights and statistics of every network by its name.
Variables = dict[str, dict[str, Any]]
Noise = dict[str, jax.Array]


class TrainState(flax.struct.PyTreeNode):
    """Everything that changes during a stage; a checkpoint holds all of it.

    Attributes:
        step: int32 scalar, completed steps.
        variables: of every network that is trained: optimised weights ("params") and what a network
            keeps beside them ("batch_stats": moments of batch norms, power-iteration vectors).
        average: what fills holes, by network: moving averages of weights, statistics as they are.
        optimizer: optimizer states by network.
        kept: what no optimizer moves, such as a snapshot, or a frozen part by network.
        extra: the rest, such as a running mean.
    """

    step: jax.Array
    variables: Variables
    average: Variables
    optimizer: dict[str, Any]
    kept: dict[str, Any] = flax.struct.field(default_factory=dict)
    extra: dict[str, Any] = flax.struct.field(default_factory=dict)


Program = Callable[[TrainState, Batch], tuple[TrainState, Scalars]]
# Parts of a state that a checkpoint holds, and an evaluation or a later stage can ask for.
ITEMS = ("variables", "average", "optimizer", "kept", "extra")


class Stage(Protocol):
    """A stage of training, as the one training loop asks for it.

    Attributes:
        name: folder of its checkpoints and logs in the workdir.
        salt: separates its random numbers from those of other stages.
        stream: which order of pictures, views and masks it sees; the same for all stages that learn
            to fill, of whatever method.
        batch_size: pictures in one step, over all devices.
        batches: what a step takes apart over devices and micro-batches: the fields that say how
            large, such as "memory.batch_size / memory.path_batch_shrink", to the size.
        accumulation: micro-batches in one step.
        total_steps: length.
        save_every: steps between two checkpoints.
        validate_every: steps between two validations.
        constants: what every batch carries besides pictures and masks, such as VGG-19's weights.
        programs: the training programs by name; pure functions of (state, batch). Exactly one of
            those that a step runs, the last, increments the step.
    """

    name: str
    salt: int
    stream: int
    batch_size: int
    batches: dict[str, int]
    accumulation: int
    total_steps: int
    save_every: int
    validate_every: int
    constants: dict[str, Any]
    programs: dict[str, Program]

    def init(self, key: jax.Array, given: Mapping[str, Any]) -> TrainState:
        """The state before the first step; pure, run under jit.

        Args:
            key: random key.
            given: what `StageSpec` asked for; {} for a start from nothing.
        """
        ...

    def due(self, step: int) -> tuple[str, ...]:
        """Names of the programs that the step after `step` completed ones runs, in order."""
        ...

    def validate(self, state: TrainState) -> dict[str, float]:
        """Scores the averaged weights on the pictures kept aside."""
        ...

    def keep(self, state: TrainState, scores: Mapping[str, float]) -> TrainState:
        """The state after a validation; a stage that keeps its best snapshot puts it there.

        Args:
            state: as it was validated.
            scores: what `validate` gave, the same in every process.
        """
        ...

    def panels(self, state: TrainState) -> dict[str, tuple[np.ndarray, int]]:
        """Pictures to look at, by name: uint8 [N, H, W, 3] and how many stand in a row."""
        ...


@dataclasses.dataclass(frozen=True)
class Context:
    """What a stage is built from besides the config.

    Attributes:
        num_examples: training pictures, an epoch.
        validation: {"image": uint8 [k, S, S, 3], "mask": uint8 [k, S, S, 1]} kept aside.
    """

    num_examples: int
    validation: Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Growth:
    """A stage that begins with the last state of the same stage in another workdir.

    Attributes:
        workdir: of a run with this method.
        items: of `ITEMS`, what is read of that state.
        check: takes that run's config; raises UserError where it does not allow it.
        field: the field that names the workdir, for messages.
    """

    workdir: str
    items: tuple[str, ...]
    check: Callable[[ConfigDict], None]
    field: str


@dataclasses.dataclass(frozen=True)
class StageSpec:
    """A stage before it is built, and what it is handed when it begins.

    Attributes:
        name: of the stage.
        build: makes it.
        after: earlier stages that must be finished, and which of `ITEMS` of their last state
            `Stage.init` is given: {"memory": ("kept",)} gives {"memory": {"kept": …}}.
        begin_from: a trained network (a name, an exported folder, a workdir) whose variables are
            given as {"begin_from": …}; "" for none.
        begin_from_field: the field that names it, for messages.
        grow_from: given as {"grow_from": {item: …}}.
        shared: dotted names of the fields, or of the sections, that it depends on besides those of
            the run, its data and its masks. A stage of the same name is the same stage where these
            agree, whichever method or variant has it. () for a stage of this method alone.
    """

    name: str
    build: Callable[[Context], Stage]
    after: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    begin_from: str = ""
    begin_from_field: str = ""
    grow_from: Growth | None = None
    shared: tuple[str, ...] = ()


class Row(NamedTuple):
    """A row of tables.

    Attributes:
        title: its name.
        priors: the paper's column "Type": "A" (what the known pixels say), "B" (what a data set
            taught), or "A + B"; "" for what learns nothing.
    """

    title: str
    priors: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Method:
    """A method of inpainting; shapes are those of S×S pictures, S = config.image_size.

    Attributes:
        name: in configs and on command lines.
        title: its row in tables.
        priors: see `Row`.
        about: a sentence or two for people: the paper, and the idea.
        fill: Î = fill(config, variables, image, mask, noise): float32 [N, S, S, 3] in [-1, 1] from
            image float32 [N, S, S, 3] in [-1, 1], whose hole is not looked at, mask float32
            [N, S, S, 1] with 1 in the hole, and noise as `noise_shapes` says with N in front.
            Known pixels are predicted too. Pure; composes all networks.
        compiled: `fill` is JAX and is compiled; if not, it takes and gives NumPy arrays.
        takes_dtype: `fill` takes dtype=…, the format of feature maps, float32 if it is not given;
            what is given and returned stays float32.
        needs: packages that `fill` imports, as `import` calls them.
        sections: its fields in a config, by the name of the section.
        shared: dotted names of fields that other methods have too and that have another default
            here, such as "batch_size".
        variants: values of config.variant and their rows; empty if it has one, `title`.
        network_fields: dotted names of the fields that `fill` depends on besides image_size and
            variant: what an exported folder holds, and what weights to begin with must agree in.
        before: of the network fields, those that came later: how it was before. A folder that says
            nothing of them is read so.
        lengths: dotted names of the fields, in thousand pictures, that say how long its own stages
            train: those that no other method shares, but for a second phase.
        note: what tables say below themselves where its row stands.
        check: what no single field shows; raises UserError with field, value and cure.
        stages: in their order; the last one's state fills. None for a method that learns nothing.
        init: variables of the networks that fill, drawn by a random key.
        noise_shapes: the N(0, 1) maps of one filling by name, in the order of drawing.
        finish: from `average` and `kept` of the last stage's state to the variables of `fill`.
        gone: whether a weight that a network of an earlier version has, by its path, had no effect
            and is left out.
        frozen: whether no optimizer of the last stage moved the weight of this path, (network,
            "params", …, name).
    """

    name: str
    title: str
    priors: str
    about: str
    fill: Callable[..., Any]
    compiled: bool = True
    takes_dtype: bool = False
    needs: tuple[str, ...] = ()
    sections: Mapping[str, type[Section]] = dataclasses.field(default_factory=dict)
    shared: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    variants: Mapping[str, Row] = dataclasses.field(default_factory=dict)
    network_fields: tuple[str, ...] = ()
    before: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    lengths: tuple[str, ...] = ()
    note: str = ""
    check: Callable[[ConfigDict], None] = lambda config: None
    stages: Callable[[ConfigDict], tuple[StageSpec, ...]] | None = None
    init: Callable[[ConfigDict, jax.Array], Variables] = lambda config, key: {}
    noise_shapes: Callable[[ConfigDict], dict[str, tuple[int, ...]]] = lambda config: {}
    finish: Callable[[ConfigDict, Variables, dict[str, Any]], Variables] = (
        lambda config, average, kept: average
    )
    frozen: Callable[[ConfigDict, tuple[str, ...]], bool] = lambda config, path: False
    gone: Callable[[tuple[str, ...]], bool] = lambda path: False

    def row(self, config: ConfigDict) -> Row:
        """The row of a config in tables."""
        return self.variants.get(config.variant, Row(self.title, self.priors))

    def stages_of(self, config: ConfigDict) -> tuple[StageSpec, ...]:
        """The stages that a config asks for.

        Raises:
            ValueError: the method has none.
        """
        if self.stages is None:
            raise ValueError(f"{self.title} learns nothing")
        return self.stages(config)

    def begins_from(self, config: ConfigDict) -> StageSpec | None:
        """The stage that begins with a trained network, if the config names one."""
        return next((spec for spec in self.stages_of(config) if spec.begin_from), None)

    def last_stage(self, config: ConfigDict) -> str:
        """Name of the stage whose state fills."""
        return self.stages_of(config)[-1].name


def apply(module: nn.Module, variables: Any, *inputs: Any, method: str | None = None) -> Any:
    """Runs a module, or one of its methods, whose statistics stay as they are."""
    return module.apply(variables, *inputs, method=method)
