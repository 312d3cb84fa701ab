"""Who sees what in which order: functions of seed, participant and sample, the same for ever."""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from gmsrm_jax.study.samples import INPUT, Sample

MIN_METHODS = 2
MAX_METHODS = 9  # the keys 1 to 9 choose
LABELS = "ABCDEFGHI"


class Turn(NamedTuple):
    """A sample that a participant sees.

    Attributes:
        sample: its name.
        again: whether it is the second time, which measures how consistent people are.
    """

    sample: str
    again: bool = False


class Presentation:
    """The samples of a study, and the orders in which participants get them.

    Both orders sort by SHA-256, so that neither a restart, another version of Python nor another
    number of samples per participant moves what a participant has seen.

    Attributes:
        methods: names of the methods.
        samples: samples by name.
        seed: of the orders.
        count: samples per participant.
        repeats: how many of them, the first ones, are shown again behind the others, their results
            in an order of its own.
    """

    def __init__(
        self,
        methods: Iterable[str],
        samples: Iterable[Sample],
        seed: int,
        count: int | None = None,
        repeats: int = 0,
    ) -> None:
        """Takes the study; without `count`, everyone gets all samples.

        Raises:
            ValueError: a number of methods, samples or repeats that no page can show.
        """
        self.methods = tuple(methods)
        self.samples: Mapping[str, Sample] = {sample.name: sample for sample in samples}
        self.seed = seed
        self.count = len(self.samples) if count is None else count
        self.repeats = repeats
        if not MIN_METHODS <= len(self.methods) <= MAX_METHODS:
            raise ValueError(f"{len(self.methods)} methods, not {MIN_METHODS} to {MAX_METHODS}")
        if not 1 <= self.count <= len(self.samples):
            raise ValueError(f"count {self.count} of {len(self.samples)} samples")
        if not 0 <= repeats <= self.count:
            raise ValueError(f"{repeats} repeats of {self.count} samples")
        self.order = functools.lru_cache(maxsize=256)(self._turns)

    @property
    def has_input(self) -> bool:
        """Whether the picture with its hole is shown."""
        return INPUT in next(iter(self.samples.values())).pictures

    def shown(self, participant: str, turn: Turn) -> tuple[str, ...]:
        """Returns the methods in the order on the participant's screen: A, B, C, ..."""
        more = ("again",) if turn.again else ()
        return tuple(
            sorted(
                self.methods,
                key=lambda method: self._key("shown", participant, turn.sample, method, *more),
            )
        )

    def _turns(self, participant: str) -> tuple[Turn, ...]:
        """What a participant ranks, first to last."""
        names = sorted(self.samples, key=lambda name: self._key("order", participant, name))
        first = [Turn(name) for name in names[: self.count]]
        return (*first, *(Turn(name, again=True) for name, _ in first[: self.repeats]))

    def _key(self, *parts: str) -> bytes:
        return hashlib.sha256(json.dumps([self.seed, *parts]).encode()).digest()
