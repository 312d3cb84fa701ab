"""Configs: the paper's settings, the argument behind the colon, and values that are refused."""

import importlib.util
import json
import math
import pathlib
import re
from typing import Literal, get_args, get_origin

import pytest

from gmsrm_jax.config import apply_argument, base_config, check_config
from gmsrm_jax.config.fields import Run, sections
from gmsrm_jax.config.of_run import check_config_of_run, config_of_run, remember_config
from gmsrm_jax.methods import METHODS, Method
from gmsrm_jax.networks import load_pretrained
from gmsrm_jax.networks.fields import check_begin_from
from gmsrm_jax.runtime.errors import UserError
from gmsrm_jax.runtime.fields import Betas, Section, setting

CONFIGS = sorted((pathlib.Path(__file__).parent.parent / "configs").glob("*.py"))
PAPER = ("paris", "celebahq", "places2")
TRAINED = [name for name, method in METHODS.items() if method.stages is not None]
VARIANTS = METHODS["gm_srm"].variants
ARGUMENTS = [None, *dict.fromkeys([*TRAINED, *VARIANTS]), "runlocal"]
SECTIONS = {"": Run, **{f"{name}.": section for name, section in sections().items()}}
FIELDS = {
    f"{place}{name}": field
    for place, section in SECTIONS.items()
    for name, field in section.model_fields.items()
}
METHOD_OF = {name: method for method in TRAINED for name in METHODS[method].sections}


def load(path, argument=None):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(argument)


def path_of(name):
    return next(path for path in CONFIGS if path.stem == name)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
@pytest.mark.parametrize("argument", [*ARGUMENTS, "gm_csv,runlocal", "runlocal,gm_csv"])
def test_every_config_is_valid_with_every_argument(path, argument):
    config = load(path, argument)
    check_config(config)
    words = (argument or "").split(",")
    assert config.method in (words if set(words) & set(TRAINED) else ["gm_srm"])
    if set(words) & set(VARIANTS):
        assert config.variant in words
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


@pytest.mark.parametrize("name", TRAINED)
def test_defaults_of_every_method_are_valid(name):
    config = base_config(name)
    check_config(config)
    assert config.method == name
    shared = {"data", "masks", "evaluation"}
    assert {key for key in config if hasattr(config[key], "keys")} == {
        *shared,
        *METHODS[name].sections,
    }


def test_every_field_has_a_meaning():
    for name, field in FIELDS.items():
        meaning = field.description
        assert meaning and meaning == meaning.strip() and "\n" not in meaning, name


class Toy(Section):
    width: int = setting(64, "channels", gt=0, local=4)
    rate: float = setting(1e-3, "of learning", ge=0, le=1)
    betas: Betas = setting((0.9, 0.999), "of Adam")


@pytest.fixture
def toy(monkeypatch):
    """A second method with a section and a batch size of its own."""
    method = Method(
        name="toy",
        title="Toy",
        priors="B",
        about="It learns nothing.",
        fill=lambda config, variables, image, mask, noise: image,
        sections={"toy": Toy},
        shared={"batch_size": 6},
        stages=lambda config: (),
    )
    monkeypatch.setitem(METHODS, "toy", method)


def test_the_words_of_an_argument_have_no_order(toy):
    for one, other in (("gm_csv", "runlocal"), ("toy", "runlocal"), ("gm_srm", "gm_csv")):
        first, second = (
            apply_argument(base_config(), f"{a},{b}").to_dict()
            for a, b in ((one, other), (other, one))
        )
        assert {first.pop("name"), second.pop("name")} == {f"-{one}-{other}", f"-{other}-{one}"}
        assert first == second
    assert (first["method"], first["variant"]) == ("gm_srm", "gm_csv")


def test_a_method_brings_its_sections_and_defaults(toy):
    config = apply_argument(base_config(), "toy")
    check_config(config)
    assert (config.method, config.variant, config.batch_size) == ("toy", "", 6)
    assert config.toy.width == 64 and "memory" not in config and "inpainting" not in config
    assert "toy" not in apply_argument(base_config(), None)
    local = apply_argument(base_config(), "toy,runlocal")
    check_config(local)
    assert (local.toy.width, local.image_size) == (4, 32)
    with pytest.raises(UserError, match=r"'gm_csv' is no method and no variant of toy; use one"):
        apply_argument(base_config(), "toy,gm_csv")
    with pytest.raises(UserError, match="names the methods gm_srm and toy; use one"):
        apply_argument(base_config(), "gm_srm,toy")
    with pytest.raises(UserError, match="names the variants base and gm_csv; use one"):
        apply_argument(base_config(), "base,gm_csv")
    config.unlock().variant = "gm_srm"
    with pytest.raises(UserError, match=r"config\.variant = 'gm_srm'; of the method toy use"):
        check_config(config)


@pytest.mark.parametrize("name", ["telea", "untrained", "GM-SRM", ""])
def test_only_what_learns_can_be_trained(name):
    config = base_config()
    config.method = name
    with pytest.raises(UserError, match=rf"config\.method = '{name}'; use one of: gm_srm"):
        check_config(config)


def refusal(key, value):
    """The one line with which a config with this value is refused."""
    section, _, name = key.rpartition(".")
    config = base_config(METHOD_OF.get(section, "gm_srm"))
    with config.ignore_type():
        (config[section] if section else config)[name] = value
    with pytest.raises(UserError) as caught:
        check_config(config)
    message = str(caught.value)
    assert "\n" not in message
    return message


def limits(field):
    """Of a number, such as {"gt": 0}."""
    return {
        limit: getattr(part, limit)
        for part in field.metadata
        for limit in ("gt", "ge", "le")
        if hasattr(part, limit)
    }


@pytest.mark.parametrize("key", [key for key, field in FIELDS.items() if limits(field)])
def test_numbers_out_of_range_are_refused_with_the_range(key):
    field = FIELDS[key]
    wrong = {"gt": lambda low: low, "ge": lambda low: low - 1, "le": lambda high: high + 1}
    for limit, bound in limits(field).items():
        value = field.annotation(wrong[limit](bound))
        message = refusal(key, value)
        assert message.startswith(f"config.{key} = {value!r}; ")
        shown = re.findall(r"-?\d+\.?\d*", message.rpartition("; ")[2])
        assert bound in map(float, shown)


def test_every_number_but_a_few_has_a_range():
    free = {key for key, field in FIELDS.items() if field.annotation in (int, float)} - {
        key for key, field in FIELDS.items() if limits(field)
    }
    assert free == {"memory.noise_strength_init"}


@pytest.mark.parametrize("key", list(FIELDS))
def test_other_types_are_refused(key):
    kind = FIELDS[key].annotation
    if get_origin(kind) is Literal:
        wrong = [None, "no such word", ("none",)]
        assert str(get_args(kind)[0]) in refusal(key, "no such word")
    else:
        wrong = {
            int: [None, "3", 3.0, True, (3,), {"a": 3}],
            float: [None, "3", (3.0,), math.nan, -math.inf],
            bool: [None, "True", 1, (True,)],
            str: [None, 3, ("a",)],
        }.get(kind, [None, "abc", 3, (None, None)])
    for value in wrong:
        assert f"config.{key}" in refusal(key, value)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("inpainting.kl_weight", -1.0, "config.inpainting.kl_weight = -1.0; it must be 0 or above"),
        ("memory.ada_target", 1.5, "config.memory.ada_target = 1.5; use -1 to 1"),
        ("memory.betas", (0.0, 1.0), "(0.0, 1.0); use two numbers from 0 to below 1"),
        ("memory.betas", (-0.1, 0.9), "use two numbers from 0 to below 1"),
        ("memory.betas", (0.9,), "betas = (0.9,) is not of type tuple[float, float]; give one"),
        ("memory.betas", (0.9, "b"), "config.memory.betas names 'b'; it is of type tuple[float, "),
        ("evaluation.baselines", "mean", "= 'mean' is not of type tuple[str, ...]; give one"),
        ("inpainting.learning_rate", math.nan, "= nan; it must be a finite number"),
        ("inpainting.learning_rate", math.inf, "= inf; it must be a finite number"),
        ("batch_size", "8", "config.batch_size = '8' is not of type int; give one"),
        ("batch_size", 8.0, "config.batch_size = 8.0 is not of type int"),
        ("data.flip", 1, "config.data.flip = 1 is not of type bool"),
        ("data.split", "random", "= 'random'; use one of: auto, folders, hash"),
        ("evaluation.baselines", ("mean", "lama"), "names 'lama'; use any of: untrained, mean,"),
        ("evaluation.predictions", ("theirs",), "names 'theirs'; write NAME=DIR"),
        ("evaluation.perceptual", ("vgg",), "names 'vgg'; use any of: vgg_hole, lpips_vgg"),
        ("image_size", 48, "config.image_size = 48; use a power of two"),
        ("inpainting.discriminator_features", (8, 0), "(8, 0); use numbers of channels from 1"),
        ("medfe.style_layers", (), "config.medfe.style_layers = (); it is empty; name layers, or"),
        ("data.scale", (0.5, 1.0), "config.data.scale = (0.5, 1.0); use two factors from 1"),
        ("batchsize", 3, "config.batchsize: no such field; use one of: name, method, variant,"),
        ("memory.lenght_kimg", 3.0, "config.memory.lenght_kimg: no such field; use one of: code_"),
        ("memori", {"length_kimg": 3.0}, "config.memori: no such section"),
    ],
)
def test_a_refusal_says_what_can_be(key, value, said):
    assert said in refusal(key, value)


def test_whole_numbers_stand_for_reals():
    config = base_config()
    config.inpainting.kl_weight = 1
    check_config(config)


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
        ("data.validation_bounds", (1, 4)),
        ("data.validation_bounds", (9, 8)),
        ("data.test_bounds", (-1, 8)),
        ("memory.augment", "ADA"),
        ("memory.path_batch_shrink", 0),
        ("memory.path_batch_shrink", 3),
        ("inpainting.query_rate", 0),
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
    assert key in refusal(key, value)


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
    config = base_config("gm_srm")
    remember_config(config, tmp_path, "fingerprint")
    path = tmp_path / "config.json"
    fields = json.loads(path.read_text(encoding="utf-8"))
    del fields["inpainting.begin_from"]
    path.write_text(json.dumps(fields), encoding="utf-8")

    check_config_of_run(config, tmp_path, "fingerprint")

    config.inpainting.begin_from = "facades-128"
    with pytest.raises(UserError, match=r"inpainting\.begin_from \('' then, 'facades-128' now\)"):
        check_config_of_run(config, tmp_path, "fingerprint")


def test_workdir_of_before_there_were_shares_holds_out_the_same_pictures(tmp_path):
    config = base_config("gm_srm")
    config.data.validation_bounds = (24, 24)
    remember_config(config, tmp_path, "fingerprint")
    path = tmp_path / "config.json"
    fields = json.loads(path.read_text(encoding="utf-8"))
    for name in ("validation_bounds", "validation_fraction", "test_bounds"):
        del fields[f"data.{name}"]
    fields["data.validation_count"] = 24
    path.write_text(json.dumps(fields), encoding="utf-8")

    check_config_of_run(config, tmp_path, "fingerprint")
    data = config_of_run(tmp_path).data
    assert data.validation_bounds == (24, 24)
    assert data.test_bounds[0] == 0

    config.data.validation_bounds = (4, 24)
    with pytest.raises(UserError, match=r"validation_bounds \(\[24, 24\] then, \[4, 24\] now\)"):
        check_config_of_run(config, tmp_path, "fingerprint")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda d: d.update({"batch_size": "8"}), "config.batch_size = '8' is not of type int"),
        (lambda d: d.update({"memory.betas": 3}), "config.memory.betas = 3"),
        (lambda d: d.update({"memory.depth": 3}), "another version of the program (memory.depth)"),
        (lambda d: d.update(method="lama"), "the method 'lama' is unknown"),
        (lambda d: d.pop("method"), "gmsrm export"),
    ],
)
def test_a_workdir_s_config_that_somebody_changed_is_one_line(tmp_path, change, said):
    remember_config(base_config("gm_srm"), tmp_path, "fingerprint")
    path = tmp_path / "config.json"
    assert config_of_run(tmp_path).to_dict() == base_config("gm_srm").to_dict()
    fields = json.loads(path.read_text(encoding="utf-8"))
    change(fields)
    path.write_text(json.dumps(fields), encoding="utf-8")
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        config_of_run(tmp_path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "3", "[]", '"method"', '{"method": ["gm_srm"]}'])
def test_a_workdir_s_config_that_is_none(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json: "):
        config_of_run(tmp_path)


def test_finetune_has_the_network_and_losses_that_the_bundled_weights_were_trained_with():
    config, facades = load(path_of("finetune")), load(path_of("facades"))
    given = load_pretrained(config.inpainting.begin_from)
    check_begin_from(config, given.config, "config.inpainting.begin_from", given.source)
    own = ("begin_from", "epochs", "learning_rate", "save_every", "validate_every")
    for key, value in facades.inpainting.items():
        assert key in own or config.inpainting[key] == value, key
