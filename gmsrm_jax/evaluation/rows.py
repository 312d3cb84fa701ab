"""What an evaluation compares: the rows of its tables, and the measures that score them."""

import importlib.util
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from gmsrm_jax.config.fields import UNTRAINED
from gmsrm_jax.data.masks.list_file import MaskList
from gmsrm_jax.evaluation import published
from gmsrm_jax.evaluation.batches import Fill
from gmsrm_jax.evaluation.measures import Judge
from gmsrm_jax.evaluation.predictions import Predictions
from gmsrm_jax.methods import CLASSICAL, METHODS
from gmsrm_jax.methods.base import Variables
from gmsrm_jax.methods.filler import Filler
from gmsrm_jax.methods.variables import draw_variables, weights_sha256
from gmsrm_jax.metrics.inception import InceptionWeights, load_inception
from gmsrm_jax.metrics.lpips import LpipsWeights, load_lpips
from gmsrm_jax.metrics.perceptual import VGG_HOLE, VGG_HOLE_LAYER
from gmsrm_jax.nn.vgg import VggWeights, load_vgg19
from gmsrm_jax.runtime.devices import replicated, to_every_device
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.files import user_path
from gmsrm_jax.runtime.log import say

UNTRAINED_ROW = "untrained network"
_NONE: Mapping[str, Variables] = MappingProxyType({})


def open_judge(config: ConfigDict) -> tuple[Judge, dict[str, str], dict[str, str]]:
    """Returns the measures, their weights' hashes, and for each that lacks something, why."""
    folder = user_path(config.evaluation.weights, "config.evaluation.weights")
    networks: dict[str, LpipsWeights] = {}
    inception: InceptionWeights | None = None
    vgg: VggWeights | None = None
    weights: LpipsWeights | InceptionWeights | VggWeights
    hashes: dict[str, str] = {}
    lacking: dict[str, str] = {}
    for name in config.evaluation.perceptual:
        try:
            if name == "fid":
                if importlib.util.find_spec("sklearn") is None:
                    raise UserError("P-IDS and U-IDS need it: pip install 'gmsrm-jax[eval]'")
                weights = inception = load_inception(str(folder / "inception.safetensors"))
            elif name == VGG_HOLE:
                weights = vgg = load_vgg19("bundled", (VGG_HOLE_LAYER,))
            else:
                path = str(folder / f"{name}.safetensors")
                weights = networks[name] = load_lpips(path, name.removeprefix("lpips_"))
            hashes[name] = weights_sha256(weights)
        except UserError as error:
            lacking[name] = str(error)
            say(f"{name} will not be scored: {error}")
    return Judge(networks, inception, vgg), hashes, lacking


def open_predictions(
    config: ConfigDict, mask_list: MaskList, others: Collection[str] = ()
) -> dict[str, Predictions]:
    """Opens the folders of other programs' pictures, by the names of their rows.

    Args:
        config: the run's config.
        mask_list: of the test set.
        others: names of further rows.

    Raises:
        UserError: two rows would have one name, or see `Predictions`.
    """
    own = METHODS[config.method].row(config).title
    taken = {*others, own, _mean_row(own), UNTRAINED_ROW}
    taken |= {each.title for each in CLASSICAL.values()}
    taken |= {f"{name} (paper)" for name in (*published.TYPES, *published.VARIANTS)}
    found: dict[str, Predictions] = {}
    for word in config.evaluation.predictions:
        name, _, folder = word.partition("=")
        if name in taken or name in found:
            raise UserError(f"--predictions {word}: a row is called {name!r} already; rename it")
        found[name] = Predictions(user_path(folder, f"--predictions {word}"), mask_list)
    return found


def open_methods(
    config: ConfigDict, variables: Variables, mesh: Mesh, begun: Mapping[str, Variables] = _NONE
) -> tuple[dict[str, Fill], dict[str, int]]:
    """Returns the rows of the tables but for predictions, and the samples of each hole.

    Args:
        config: the run's config.
        variables: of the trained network.
        mesh: devices that share a batch.
        begun: further weights of the same network, by the names of their rows.

    Raises:
        UserError: several samples are wanted without noise.
    """
    method, settings = METHODS[config.method], config.evaluation
    own = method.row(config).title
    filler = Filler(method, config, variables, mesh=mesh)
    if filler.draws and settings.noise == "mean" and settings.samples > 1:
        raise UserError(
            f"evaluation.samples = {settings.samples} with evaluation.noise = 'mean': without "
            "noise all samples are the same; set noise to 'sampled' or 'both', or samples to 1"
        )
    rows: dict[str, Fill] = {}
    samples: dict[str, int] = {}
    if settings.noise != "mean" or not filler.draws:
        rows[own] = _filled_by(filler, settings.seed)
        samples[own] = settings.samples if filler.draws else 1
    if settings.noise != "sampled" and filler.draws:
        rows[_mean_row(own)] = _filled_by(filler, settings.seed, mean=True)
    for name, weights in begun.items():
        rows[name] = _filled_by(
            filler,
            settings.seed,
            variables=to_every_device(weights, mesh),
            mean=filler.draws and settings.noise == "mean",
        )
    for name in settings.baselines:
        if name == UNTRAINED:
            untrained = jax.jit(
                lambda: draw_variables(method, config), out_shardings=replicated(mesh)
            )()
            rows[UNTRAINED_ROW] = _filled_by(filler, settings.seed, variables=untrained)
        else:
            rows[METHODS[name].title] = _filled_by(Filler(METHODS[name], config, {}), settings.seed)
    return rows, samples


def _mean_row(own: str) -> str:
    return f"{own}, mean noise"


def _filled_by(filler: Filler, seed: int, **how: Any) -> Fill:
    """A filler as a row; the noise of an example is a function of the seed and its index."""

    def fill(image: np.ndarray, mask: np.ndarray, index: np.ndarray) -> np.ndarray:
        seeds = np.full(len(index), seed, np.uint32)
        return filler.raw(image, mask, seeds, np.asarray(index, np.uint32), **how)

    return fill
