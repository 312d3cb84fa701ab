"""What `gmsrm evaluate` and `gmsrm compare` do around the scoring itself."""

import json

import pytest

from gmsrm_jax.checkpoints import store
from gmsrm_jax.cli import main
from gmsrm_jax.commands import evaluate as command
from gmsrm_jax.commands.comparison import Row, compare
from gmsrm_jax.commands.scoring import NotScored
from gmsrm_jax.config.fields import apply_argument, base_config
from gmsrm_jax.config.of_run import remember_config
from gmsrm_jax.evaluation import rows, run
from gmsrm_jax.evaluation.rows import open_judge, open_methods
from gmsrm_jax.runtime.devices import data_mesh
from gmsrm_jax.runtime.errors import UserError


@pytest.fixture
def config():
    config = base_config()
    config.name = "try"
    apply_argument(config, "runlocal")
    config.evaluation.dataset = "Places2"
    return config


@pytest.fixture
def workdir(config, tmp_path):
    remember_config(config, tmp_path, "")
    (tmp_path / "inpainting" / "checkpoints").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def calls(monkeypatch):
    """Arguments of every evaluation, in place of the evaluation."""
    found = []
    monkeypatch.setattr(
        command, "evaluate_and_report", lambda *words, share: found.append((*words, share))
    )
    return found


def test_other_pictures_do_not_get_the_rows_of_the_trainings_data_set(workdir, calls):
    main(["evaluate", "--checkpoint", str(workdir)])
    main(["evaluate", "--checkpoint", str(workdir), "--images", "bundled:facades/test"])
    words = ["--images", "bundled:facades/test", "--dataset", "CelebA-HQ256"]
    main(["evaluate", "--checkpoint", str(workdir), *words])
    names = [config.evaluation.dataset for config, *_ in calls]
    assert names == ["Places2", "test pictures", "CelebA-HQ256"]


def test_fields_are_changed_as_in_training(workdir, calls, capsys):
    words = ["evaluate", "--checkpoint", str(workdir)]
    assert main([*words, "--config.evaluation.seed=7", "--config.evaluation.baselines=()"]) == 0
    assert (calls[0][0].evaluation.seed, calls[0][0].evaluation.baselines) == (7, ())
    assert main([*words, "--config.evaluation.sead=7"]) == 2
    assert "--config.evaluation.sead=7: no field of this name" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["doctor", "--config.evaluation.seed=7"])  # reads no config
    assert "unrecognized arguments: --config.evaluation.seed=7" in capsys.readouterr().err


def test_shares_go_with_one_program_s_options_only(workdir, calls, capsys):
    words = ["evaluate", "--checkpoint", str(workdir)]
    for option in (["--shard", "0/2"], ["--join", "2"]):
        assert main([*words, *option, "--follow", "1"]) == 2
        assert "--follow is for one program" in capsys.readouterr().err
    assert main([*words, "--shard", "1/2"]) == 0
    assert str(calls[0][-1]) == "1/2"


def test_perceptual_measures_are_those_that_there_are(workdir, calls, capsys):
    words = ["evaluate", "--checkpoint", str(workdir), "--perceptual"]
    assert main([*words, "vgg_hole,lpips_vgg,lpips_alex,fid"]) == 0
    assert calls[0][0].evaluation.perceptual == ("vgg_hole", "lpips_vgg", "lpips_alex", "fid")
    assert main([*words, "vgg_hole,vgg"]) == 2
    assert "'vgg'; use any of: vgg_hole, lpips_vgg, lpips_alex, fid" in capsys.readouterr().err
    assert len(calls) == 1


def test_follow_scores_the_checkpoints_it_names_and_reports_missing_weights(
    workdir, monkeypatch, capsys
):
    steps, scored = iter([4, 4, 8]), []

    class Saved:
        def __init__(self, folder, read_only):
            assert read_only

        def latest(self):
            return next(steps, 8)

        def finish(self):
            pass

    def evaluate_and_report(config, workdir, line, output, step):
        scored.append((output.name, step))
        raise NotScored("fid was not scored")

    monkeypatch.setattr(store, "Checkpoints", Saved)
    monkeypatch.setattr(command, "evaluate_and_report", evaluate_and_report)
    assert main(["evaluate", "--checkpoint", str(workdir), "--follow", "0.2"]) == 2
    assert scored == [("step_00000004", 4), ("step_00000008", 8)]
    assert "fid was not scored" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("section", "field", "value", "said"),
    [
        ("evaluation", "noise", "mean", r"evaluation\.noise = 'mean' leaves out the rows"),
        ("data", "test_fraction", 0.0, r"needs test pictures; set data\.test or"),
        ("inpainting", "begin_from", "facades-128", r"begin_from = 'facades-128' brings trained"),
    ],
)
def test_a_comparison_that_cannot_be_is_refused_before_training(
    config, tmp_path, section, field, value, said
):
    config[section][field] = value
    with pytest.raises(UserError, match=said):
        compare([Row("gm_srm", config)], tmp_path, "c")
    assert not any(tmp_path.iterdir())


def test_samples_without_noise_are_refused(config):
    config.evaluation.noise, config.evaluation.samples = "mean", 3
    with pytest.raises(UserError, match=r"evaluation\.samples = 3"):
        open_methods(config, {}, data_mesh())
    config.variant = "base"  # has no noise to begin with, and stands beside variants that have
    config.evaluation.baselines = ("mean",)
    methods, samples = open_methods(config, {}, data_mesh())
    assert (list(methods), samples) == (["Base", "mean colour"], {"Base": 1})


def test_fid_without_scikit_learn_is_left_out_before_anything_is_scored(config, monkeypatch):
    config.evaluation.perceptual = ("fid",)
    monkeypatch.setattr(rows.importlib.util, "find_spec", lambda name: None)
    judge, hashes, lacking = open_judge(config)
    assert not judge.compares_sets
    assert hashes == {}
    assert "gmsrm-jax[eval]" in lacking["fid"]


def test_only_a_complete_evaluation_counts_as_scored(tmp_path, monkeypatch):
    class Masks:
        def facts(self):
            return {"sha256": "m"}

    facts = {"checkpoint_step": 1}
    metrics = {"facts": facts, "mask_list": {"sha256": "m"}, "run": {"versions": {"jax": "1"}}}
    monkeypatch.setattr(run, "package_versions", lambda: {"jax": "1"})
    (tmp_path / "metrics.json").write_text(json.dumps(metrics))
    (tmp_path / "per_image.csv").touch()
    assert run.scores_of(tmp_path, facts, Masks()) is None
    (tmp_path / "examples.npz").touch()
    assert run.scores_of(tmp_path, facts, Masks()) == metrics
    assert run.scores_of(tmp_path, {"checkpoint_step": 2}, Masks()) is None
    monkeypatch.setattr(run, "package_versions", lambda: {"jax": "2"})
    assert run.scores_of(tmp_path, facts, Masks()) is None
