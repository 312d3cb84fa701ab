"""Says which of GM-SRM's own parts are alive: tools/probe_network.py configs/kaokore.py NETWORK.

NETWORK is a workdir or an exported folder; the config says which pictures and masks it is shown.
In holes of 30 to 60 %, with noise at its mean, the table gives for each level of the memory:

- colour: R² of a linear probe (ridge) for the mean colour of a picture's known pixels, from the
  feature that the query code is read of (F_E at 4x4, F_D^(i-1) above), averaged to 4x4; fitted on
  training pictures, scored on test pictures;
- σ: smallest and largest over the test pictures, and the largest |μ| (Eq. 8);
- noise: the memory's learned strengths, that of up and that of conv.

Below it stands what PSNR loses when every code is replaced by its mean over the training pictures.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from gmsrm_jax import metrics
from gmsrm_jax.commands import Parser
from gmsrm_jax.commands.config_files import change_fields, read_config_file
from gmsrm_jax.commands.options import add_fields, whole
from gmsrm_jax.config.checks import check_config
from gmsrm_jax.data.decoding import resize_for_test
from gmsrm_jax.data.splits import split_pictures
from gmsrm_jax.evaluation.run import open_test_set
from gmsrm_jax.methods.base import apply
from gmsrm_jax.methods.gm_srm.fields import VARIANTS
from gmsrm_jax.methods.gm_srm.memory import NOISE_STRENGTH, noise_shapes
from gmsrm_jax.methods.gm_srm.network import (
    Filled,
    InpaintingNetwork,
    asked_resolutions,
    build_network,
)
from gmsrm_jax.networks import Pretrained, load_pretrained
from gmsrm_jax.nn.layers import average_pool
from gmsrm_jax.runtime.errors import UserError, status_of
from gmsrm_jax.runtime.jax_setup import set_up_jax
from gmsrm_jax.runtime.log import open_text_log
from gmsrm_jax.runtime.pixels import composite, to_bytes, to_signed

BATCH = 8
_BINS = ("30-40%", "40-50%", "50-60%")
_GRID = 4  # side of the features that a code is read of


class Holes(NamedTuple):
    """Pictures uint8 [N, S, S, 3], and masks uint8 [N, S, S, 1] with 1 in the hole."""

    image: np.ndarray
    mask: np.ndarray


class Seen(NamedTuple):
    """What a network does with N pictures; dicts are by resolution.

    Attributes:
        filled: its output, means and log variances.
        features: [N, 16 C], what each query is read of.
        codes: [N, D], the query codes as they came, before any is replaced.
    """

    filled: Filled
    features: dict[int, Any]
    codes: dict[int, Any]


def watcher(config: ConfigDict) -> Callable[..., Seen]:
    """A compiled function (variables, image, mask, noise, codes, held) → `Seen` of one batch.

    Image and mask are as `InpaintingNetwork` takes them. Where the scalar `held` is 1, the codes
    [D], by resolution, stand in the place of every picture's own.
    """
    network = build_network(config)

    def watch(
        variables: Any, image: Any, mask: Any, noise: Any, codes: Mapping[int, Any], held: Any
    ) -> Seen:
        features: dict[int, jax.Array] = {}
        own: dict[int, jax.Array] = {}

        def asked(following: Any, arguments: Any, named: Any, context: Any) -> Any:
            found = following(*arguments, **named)
            if isinstance(context.module, InpaintingNetwork) and context.method_name == "query":
                level, previous = arguments[:2]
                features[level] = average_pool(previous, _GRID).reshape(len(previous), -1)
                own[level] = found
                found = jnp.where(held > 0, codes[level][None], found)
            return found

        with nn.intercept_methods(asked):
            filled = apply(network, variables, image, mask, noise)
        return Seen(filled, features, own)

    return jax.jit(watch)


class Probe:
    """A trained GM-SRM with a memory, to be looked into."""

    def __init__(self, network: Pretrained):
        """Compiles nothing yet.

        Args:
            network: to look into.

        Raises:
            UserError: it has no memory to query.
        """
        config = network.config
        if config.variant not in VARIANTS or not VARIANTS[config.variant].memory:
            name = config.variant or config.method
            raise UserError(f"{network.source}: {name} has no query codes; name a GM-SRM's network")
        self.config, self.variables = config, network.variables["network"]
        self.levels = asked_resolutions(config)
        self._watch = watcher(config)

    def watch(
        self,
        holes: Holes,
        codes: Mapping[int, np.ndarray] | None = None,
        noise: Callable[[np.ndarray], list[np.ndarray]] | None = None,
    ) -> Seen:
        """Shows it pictures, batch by batch.

        Args:
            holes: the pictures.
            codes: [D] by level, in the place of every picture's own; None for its own.
            noise: from places [n] among the pictures to their noise maps; None for ε = 0.
        """
        count = len(holes.image)
        places = np.arange(-(-count // BATCH) * BATCH) % count
        still = {r: np.zeros(self.config.model.code_dim, np.float32) for r in self.levels}
        zeros = [np.zeros(s, np.float32) for s in noise_shapes(BATCH, self.levels)]
        parts = [
            self._watch(
                self.variables,
                to_signed(holes.image[rows]),
                holes.mask[rows].astype(np.float32),
                noise(rows) if noise else zeros,
                codes or still,
                np.float32(codes is not None),
            )
            for rows in places.reshape(-1, BATCH)
        ]
        whole: Seen = jax.tree.map(lambda *x: np.concatenate(x)[:count], *parts)
        return whole

    def strengths(self, level: int) -> list[float]:
        """The memory's noise strengths of a level, in the order of use."""
        memory = self.variables["params"]["memory"]
        layers = [memory.get(f"{kind}_{level}") for kind in ("up", "conv")]
        return [float(layer[NOISE_STRENGTH]) for layer in layers if layer is not None]


def colour_of(holes: Holes) -> np.ndarray:
    """Mean colour of the known pixels, float64 [N, 3] in 0..255."""
    known = 1.0 - holes.mask
    return (holes.image * known).sum((1, 2)) / known.sum((1, 2))


def probed(fit: tuple[np.ndarray, np.ndarray], held_out: tuple[np.ndarray, np.ndarray]) -> float:
    """R² on held-out rows of a ridge regression, (features [N, F], targets [N, K]) each.

    The penalty is the best of nine by leave-one-out on the rows of the fit.
    """
    from sklearn.linear_model import RidgeCV
    from sklearn.metrics import r2_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), RidgeCV(alphas=np.logspace(-1, 7, 9)))
    model.fit(fit[0].astype(np.float64), fit[1])
    return float(r2_score(held_out[1], model.predict(held_out[0].astype(np.float64))))


def psnr_of(holes: Holes, seen: Seen) -> float:
    """Mean PSNR of the composites [dB]."""
    filled = composite(holes.image, to_bytes(seen.filled.image), holes.mask)
    return float(np.mean(np.asarray(metrics.psnr(filled, holes.image))))


def open_holes(config: ConfigDict, count: int) -> tuple[Holes, Holes]:
    """Training and test pictures, up to so many of each, with masks of the test's list in turn.

    They are taken at even distances, for neighbours by name may be parts of one picture.

    Raises:
        UserError: pictures or masks cannot be used.
    """
    split, (tests, masks) = split_pictures(config), open_test_set(config)
    wanted = [place for place, name in enumerate(masks.bins) if name in _BINS]
    if not wanted:
        raise UserError(
            f"evaluation.masks = {config.evaluation.masks!r} has no holes of {', '.join(_BINS)} "
            "for each picture; give 'generated', a mask list, or masks for any picture"
        )

    def spread(total: int) -> np.ndarray:
        return np.linspace(0, total - 1, min(count, total)).astype(np.int64)

    def opened(images: Iterator[np.ndarray]) -> Holes:
        size, data = config.image_size, config.data
        found = [resize_for_test(x, size, data.shorter_side, data.test_resize) for x in images]
        rows = range(len(found))
        chosen = [
            masks.mask(k % len(masks.names) * len(masks.bins) + wanted[k % len(wanted)])
            for k in rows
        ]
        return Holes(np.stack(found), np.stack(chosen))

    training = split.training[spread(len(split.training))]
    return (
        opened(split.pictures.image(int(index)) for index in training),
        opened(tests.image(int(index)) for index in spread(len(masks.names))),
    )


def table_of(probe: Probe, fit: Holes, test: Holes) -> str:
    """The measures as Markdown."""
    first, second = probe.watch(fit), probe.watch(test)
    constant = {level: codes.mean(0) for level, codes in first.codes.items()}
    replaced = probe.watch(test, constant)
    lines = ["| level | colour, R² | σ | largest \\|μ\\| | noise |", "| ---: |" + " ---: |" * 4]
    for place, level in enumerate(probe.levels):
        score = probed(
            (first.features[level], colour_of(fit)), (second.features[level], colour_of(test))
        )
        sigma = np.exp(0.5 * second.filled.log_variance[:, place])
        mean = np.abs(second.filled.mean[:, place]).max()
        strengths = ", ".join(f"{strength:.3f}" for strength in probe.strengths(level))
        span = f"{sigma.min():.2f} … {sigma.max():.2f}"
        lines.append(f"| {level} | {score:.2f} | {span} | {mean:.2f} | {strengths} |")
    own, without = psnr_of(test, second), psnr_of(test, replaced)
    return "\n".join(
        [*lines, "", f"PSNR {own:.2f} dB, with constant codes {without:.2f}: {without - own:+.2f}"]
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table and returns the exit status, 2 after an error that is one line."""
    parser = Parser(description="Says which parts of a trained GM-SRM are alive.")
    add = parser.add_argument
    add("config", metavar="FILE", help="a config file *.py[:ARGUMENT], for pictures and masks")
    add("network", metavar="NETWORK", help="a workdir, an exported folder, or facades-128")
    most = "at most so many (default: %(default)s)"
    add("--pictures", type=whole(1), default=240, metavar="N", help=most)
    add_fields(parser)
    args = parser.parse_args(arguments)
    open_text_log(None)

    def look() -> None:
        config = read_config_file(args.config)
        change_fields(config, args.set)
        check_config(config)
        set_up_jax(config.matmul_precision)
        probe = Probe(load_pretrained(args.network))
        if probe.config.image_size != config.image_size:
            raise UserError(
                f"{args.network} is for {probe.config.image_size} px, and the config's image_size "
                f"is {config.image_size}; set it to the same"
            )
        print(table_of(probe, *open_holes(config, args.pictures)))

    return status_of("probe_network", look)


if __name__ == "__main__":
    sys.exit(main())
