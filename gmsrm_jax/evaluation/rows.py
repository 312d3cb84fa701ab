"""What an evaluation compares: the rows of its tables, and the measures that score them."""

import functools
import importlib.util
import pathlib
from typing import Any

from jax.sharding import Mesh
from ml_collections import ConfigDict

from gmsrm_jax.data.masks.assignment import MaskList
from gmsrm_jax.evaluation.batches import Fill
from gmsrm_jax.evaluation.measures import Judge
from gmsrm_jax.evaluation.predictions import Predictions
from gmsrm_jax.methods.classical import BASELINES
from gmsrm_jax.methods.gm_srm.variants import VARIANTS
from gmsrm_jax.methods.network_weights import weights_sha256
from gmsrm_jax.metrics.inception import InceptionWeights, load_inception
from gmsrm_jax.metrics.lpips import LpipsWeights, load_lpips
from gmsrm_jax.metrics.perceptual import VGG_HOLE, VGG_HOLE_LAYER
from gmsrm_jax.networks.trained_network import network_fill, untrained_weights
from gmsrm_jax.nn.vgg import Vgg19Weights, load_vgg19
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.log import say

METHODS = {"base": "Base", "gm_bm": "GM-BM", "gm_csv": "GM-CSV", "gm_srm": "GM-SRM"}
UNTRAINED = "untrained network"


def open_judge(config: ConfigDict) -> tuple[Judge, dict[str, str], dict[str, str]]:
    """Returns the measures, their weights' hashes, and for each that lacks something, why."""
    folder = pathlib.Path(config.evaluation.weights).expanduser()
    networks: dict[str, LpipsWeights] = {}
    inception: InceptionWeights | None = None
    vgg: Vgg19Weights | None = None
    hashes: dict[str, str] = {}
    lacking: dict[str, str] = {}
    for name in config.evaluation.perceptual:
        try:
            if name == "fid":
                if importlib.util.find_spec("sklearn") is None:
                    raise UserError("P-IDS and U-IDS need it: pip install 'gmsrm-jax[eval]'")
                inception = load_inception(str(folder / "inception.npz"))
                hashes[name] = weights_sha256(inception)
            elif name == VGG_HOLE:
                vgg = load_vgg19("bundled", (VGG_HOLE_LAYER,))
                hashes[name] = weights_sha256(vgg)
            else:
                networks[name] = load_lpips(
                    str(folder / f"{name}.npz"), name.removeprefix("lpips_")
                )
                hashes[name] = weights_sha256(networks[name])
        except UserError as error:
            lacking[name] = str(error)
            say(f"{name} will not be scored: {error}")
    return Judge(networks, inception, vgg), hashes, lacking


def open_predictions(config: ConfigDict, mask_list: MaskList) -> dict[str, Predictions]:
    """Opens the folders of other programs' pictures, by the names of their rows.

    Raises:
        UserError: two rows would have one name, or see `Predictions`.
    """
    own = METHODS[config.variant]
    taken = {own, f"{own}, mean noise", UNTRAINED, *(label for label, _ in BASELINES.values())}
    found: dict[str, Predictions] = {}
    for word in config.evaluation.predictions:
        name, _, folder = word.partition("=")
        if name in taken or name in found:
            raise UserError(f"--predictions {word}: a row is called {name!r} already; rename it")
        found[name] = Predictions(pathlib.Path(folder).expanduser(), mask_list)
    return found


def open_methods(
    config: ConfigDict, params: Any, mesh: Mesh
) -> tuple[dict[str, Fill], dict[str, int]]:
    """Returns the rows of the tables but for predictions, and the samples of each hole.

    Args:
        config: the run's config.
        params: the trained network's weights.
        mesh: devices that share a batch.

    Raises:
        UserError: several samples are wanted without noise.
    """
    own, settings = METHODS[config.variant], config.evaluation
    draws = VARIANTS[config.variant].memory  # only the memory takes noise
    if draws and settings.noise == "mean" and settings.samples > 1:
        raise UserError(
            f"evaluation.samples = {settings.samples} with evaluation.noise = 'mean': without "
            "noise all samples are the same; set noise to 'sampled' or 'both', or samples to 1"
        )
    methods: dict[str, Fill] = {}
    samples: dict[str, int] = {}
    drawing = network_fill(config, mesh, False)  # shared, so that it is compiled once
    if settings.noise != "mean" or not draws:
        methods[own] = functools.partial(drawing, params)
        samples[own] = settings.samples if draws else 1
    if settings.noise != "sampled" and draws:
        methods[f"{own}, mean noise"] = functools.partial(network_fill(config, mesh, True), params)
    for name in settings.baselines:
        if name == "untrained":
            weights = untrained_weights(config, mesh)
            methods[UNTRAINED] = functools.partial(drawing, weights)
        else:
            label, fill = BASELINES[name]
            methods[label] = fill
    return methods, samples
