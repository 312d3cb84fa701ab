"""Configs: the paper's settings, the argument behind the colon, and values that are refused."""

import importlib.util
import json
import pathlib
import re

import pytest
from gmsrm_jax.methods.gm_srm.variants import VARIANTS

from gmsrm_jax.config.checks import check_config
from gmsrm_jax.config.fields import base_config
from gmsrm_jax.config.of_run import check_config_of_run, remember_config
from gmsrm_jax.networks import load_pretrained
from gmsrm_jax.networks.fields import check_begin_from
from gmsrm_jax.runtime.errors import UserError

CONFIGS = sorted((pathlib.Path(__file__).parent.parent / "configs").glob("*.py"))
PAPER = ("paris", "celebahq", "places2")


def load(path, argument=None):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(argument)


def path_of(name):
    return next(path for path in CONFIGS if path.stem == name)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("argument", [None, *VARIANTS, "runlocal", "gm_csv,runlocal"])
def test_every_config_is_valid_with_every_argument(path, argument):
    config = load(path, argument)
    check_config(config)
    assert config.variant == (argument if argument in VARIANTS else config.variant)
    assert config.name == "-".join([path.stem, *(argument or "").split(",")]).rstrip("-")
    if argument and "runlocal" in argument:
        assert config.image_size == 32
        assert (config.data.train, config.data.test) == ("bundled:facades", "")


@pytest.mark.parametrize("name", PAPER)
def test_benchmarks_have_the_papers_settings(name):
    config = load(path_of(name))
    stage = config.inpainting
    assert (config.image_size, config.batch_size, config.variant) == (256, 8, "gm_srm")
    assert (stage.learning_rate, stage.discriminator_learning_rate) == (2e-4, 2e-4)
    weights = ("reconstruction", "perceptual", "adversarial", "kl")
    assert [stage[f"{w}_weight"] for w in weights] == [1, 0.1, 0.01, 0.01]
    assert (stage.hole_weight, stage.epochs) == (10, 100)
    assert config.data.shorter_side * config.image_size == 320
    assert stage.perceptual_layers == ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    assert (config.model.channel_base, config.model.channel_max) == (16384, 512)
    assert (config.memory.augment, config.memory.reconstruction_weight) == ("none", 0)
    assert not config.model.stem_skip
    assert not config.model.smooth_skip


def test_celebahq_is_tested_without_a_crop():
    assert load(path_of("celebahq")).data.test_resize == "direct"


def test_fields_are_locked():
    with pytest.raises(AttributeError):
        load(path_of("demo")).batchsize = 3


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("variant", "gm"),
        ("image_size", 16),
        ("image_size", 96),
        ("batch_size", 0),
        ("xla_optimization_level", 4),
        ("model.channel_base", 128),
        ("model.fusion_kernel", 2),
        ("data.pipeline", "grain"),
        ("data.validation_count", 1),
        ("memory.augment", "ADA"),
        ("memory.path_batch_shrink", 0),
        ("memory.path_batch_shrink", 3),
        ("inpainting.query_rate", 0),
        ("inpainting.diversity_batch_shrink", 3),
        ("inpainting.diversity_grid", -1),
        ("inpainting.diversity_grid", 24),
        ("memory.r1_interval", -1),
        ("memory.style_mixing", 1.5),
        ("memory.length_kimg", 0.0),
        ("inpainting.ema", -0.1),
        ("inpainting.schedule", "linear"),
        ("inpainting.perceptual_layers", ("relu2_1",)),
        ("inpainting.discriminator_features", ()),
        ("evaluation.noise", "none"),
        ("evaluation.perceptual", ("vgg_hole", "vgg")),
        ("evaluation.seed", -1),
    ],
)
def test_values_that_cannot_be_are_refused_by_name(key, value):
    config = base_config()
    *parents, last = key.split(".")
    place = config
    for part in parents:
        place = place[part]
    place[last] = value
    with pytest.raises(UserError, match=re.escape(key)):
        check_config(config)


def test_reconstruction_needs_the_encoder_source():
    config = base_config()
    config.memory.code_source = "mapping"
    config.memory.reconstruction_weight = 1.0
    with pytest.raises(UserError, match=r"memory\.reconstruction_weight .*encoder"):
        check_config(config)


@pytest.mark.parametrize("masks", ["generated", "bundled", "list.npz"])
def test_only_a_folder_of_masks_can_be_inverted(masks):
    config = base_config()
    config.evaluation.invert_masks = True
    config.evaluation.masks = "masks/irregular"
    check_config(config)
    config.evaluation.masks = masks
    with pytest.raises(UserError, match=rf"evaluation\.invert_masks .*{masks}"):
        check_config(config)


def test_workdir_of_an_earlier_version_goes_on_where_new_fields_have_their_defaults(tmp_path):
    config = base_config()
    remember_config(config, tmp_path, "fingerprint")
    path = tmp_path / "config.json"
    fields = json.loads(path.read_text(encoding="utf-8"))
    del fields["inpainting.begin_from"]
    path.write_text(json.dumps(fields), encoding="utf-8")

    check_config_of_run(config, tmp_path, "fingerprint")

    config.inpainting.begin_from = "facades-128"
    with pytest.raises(UserError, match=r"inpainting\.begin_from \('' then, 'facades-128' now\)"):
        check_config_of_run(config, tmp_path, "fingerprint")


def test_finetune_has_the_network_and_losses_that_the_bundled_weights_were_trained_with():
    config, facades = load(path_of("finetune")), load(path_of("facades"))
    check_begin_from(config, load_pretrained(config.inpainting.begin_from).config)
    own = ("begin_from", "epochs", "learning_rate", "save_every", "validate_every")
    for key, value in facades.inpainting.items():
        assert key in own or config.inpainting[key] == value, key
