"""Who sees what in which order: functions of seed, participant and sample, the same for ever."""

import functools
import hashlib
import json
from collections.abc import Iterable, Mapping

from gmsrm_jax.study.samples import Sample

MIN_METHODS = 2
MAX_METHODS = 9  # the keys 1 to 9 choose
LABELS = "ABCDEFGHI"


class Presentation:
    """The samples of a study, and the orders in which participants get them.

    Both orders sort by SHA-256, so that neither a restart, another version of Python nor another
    number of samples per participant moves what a participant has seen.

    Attributes:
        methods: names of the methods.
        samples: samples by name.
        seed: of the orders.
        count: samples per participant.
    """

    def __init__(
        self, methods: Iterable[str], samples: Iterable[Sample], seed: int, count: int | None = None
    ) -> None:
        """Takes the study; without `count`, everyone gets all samples.

        Raises:
            ValueError: a number of methods or a count that no page can show.
        """
        self.methods = tuple(methods)
        self.samples: Mapping[str, Sample] = {sample.name: sample for sample in samples}
        self.seed = seed
        self.count = len(self.samples) if count is None else count
        if not MIN_METHODS <= len(self.methods) <= MAX_METHODS:
            raise ValueError(f"{len(self.methods)} methods, not {MIN_METHODS} to {MAX_METHODS}")
        if not 1 <= self.count <= len(self.samples):
            raise ValueError(f"count {self.count} of {len(self.samples)} samples")
        self._order = functools.lru_cache(maxsize=256)(self._sorted_samples)

    @property
    def has_input(self) -> bool:
        """Whether the picture with its hole is shown."""
        return next(iter(self.samples.values())).input is not None

    def order(self, participant: str) -> tuple[str, ...]:
        """Returns the `count` samples that a participant ranks, first to last."""
        return self._order(participant)

    def shown(self, participant: str, sample: str) -> tuple[str, ...]:
        """Returns the methods in the order on the participant's screen: A, B, C, ..."""
        return tuple(
            sorted(self.methods, key=lambda method: self._key("shown", participant, sample, method))
        )

    def _sorted_samples(self, participant: str) -> tuple[str, ...]:
        names = sorted(self.samples, key=lambda name: self._key("order", participant, name))
        return tuple(names[: self.count])

    def _key(self, *parts: str) -> bytes:
        return hashlib.sha256(json.dumps([self.seed, *parts]).encode()).digest()
