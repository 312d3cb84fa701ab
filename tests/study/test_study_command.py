"""The command `gmsrm study`."""

import io
import json
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
from exported_networks import exported
from PIL import Image
from studies import ANNA, METHODS, get, post

from gmsrm_jax.cli import main


def study(folders, out, *more):
    pairs = [f"{method}={folders[method]}" for method in METHODS]
    return [
        "study",
        "--methods",
        *pairs,
        "--input",
        str(folders["input"]),
        "--out",
        str(out),
        *more,
    ]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--host", "0.0.0.0"], "--host=0.0.0.0: other machines could reach it"),
        (["--count", "5"], "--count=5: there are 4 samples"),
        (["--repeats", "5"], "--repeats=5: of 4 samples"),
        (["--methods", "a=b"], "--methods: 1 given; give 2 to 9"),
        (["--networks", "GM-SRM=x", "--images", "y"], "'GM-SRM' is given twice"),
        (["--networks", "x=x"], "--networks and --images: give both, or none"),
        (["--masks", "x"], "--masks: give --images and --networks too"),
        (["--methods", "a=b", "a=c"], "'a' is given twice"),
        (["--tally"], "--tally reads what is in --out"),
    ],
)
def test_the_command_refuses_in_one_line(folders, tmp_path, capsys, more, message):
    assert main(study(folders, tmp_path / "new", *more)) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_the_command_expands_homes_and_names_its_own_options(
    folders, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("HOME", str(tmp_path))
    out = ["study", "--out", "~/out", "--device", "cpu"]
    assert main([*out, "--methods", f"a={folders['input']}", "b=~/none"]) == 2
    assert f"{tmp_path / 'none'}: no such folder" in capsys.readouterr().err
    networks = ["--networks", "a=photos-128", "b=facades-128"]
    assert main([*out, *networks, "--images", "~/none"]) == 2
    assert f"--images={tmp_path / 'none'}: there is no such file" in capsys.readouterr().err
    there = str(folders["input"])
    assert main([*out, *networks, "--images", there, "--masks", there]) == 2
    assert f"--masks={there}: is the folder of the pictures" in capsys.readouterr().err


@pytest.mark.parametrize(
    "more", [["--methods", "a", "b=c"], ["--count", "0"], ["--port", "70000"], ["--methods", "=x"]]
)
def test_the_command_refuses_malformed_values(folders, tmp_path, more):
    with pytest.raises(SystemExit) as caught:
        main(study(folders, tmp_path / "new", *more))
    assert caught.value.code == 2


def test_a_port_in_use_is_said(folders, tmp_path, server, capsys):
    assert main(study(folders, tmp_path / "new", "--port", str(server.server_port))) == 2
    assert f"--port={server.server_port}: cannot be opened" in capsys.readouterr().err


def test_without_fastapi_the_command_says_how_to_install_it(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    assert main(study(folders, tmp_path / "new")) == 2
    assert capsys.readouterr().err == (
        "gmsrm: error: gmsrm study needs fastapi, which is not installed; pip install -r"
        " requirements/serve.txt, or 'gmsrm-jax[serve]', which brings TensorFlow, too\n"
    )


@pytest.mark.parametrize("stopping", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_stops_cleanly_and_goes_on(folders, tmp_path, capsys, stopping):
    out = tmp_path / "new"
    command = [sys.executable, "-m", "gmsrm_jax.cli", *study(folders, out, "--port", "0")]
    printed = []
    for position in (0, 1):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        head = [process.stdout.readline(), process.stdout.readline()]
        url = re.search(r"http://127\.0\.0\.1:\d+/", head[1])[0]
        words = "1 vote" if position == 1 else f"{position} votes"
        assert f"; {words} so far" in head[0]
        page, _ = get(url)
        number = re.search(rb'data-study="(\w+)"', page)[1].decode()
        vote = {"study": number, "participant": ANNA, "position": position, "ranking": [0, 1, 2]}
        post(url, vote)
        process.send_signal(stopping)
        printed.append(process.communicate(timeout=20)[0])
        assert process.returncode == 0
        stored = f"vote {position + 1}: participant aaaaaa ranks picture {position + 1} of 4"
        assert stored in printed[-1]
    assert "1 vote of 1 participant on 1 of 4 samples" in printed[0]
    assert "2 votes of 1 participant on 2 of 4 samples" in printed[1]
    assert json.loads((out / "tally.json").read_text())["votes"] == 2
    assert main(["study", "--out", str(out), "--tally"]) == 0
    assert capsys.readouterr().out.strip() in printed[1]
    assert main(["study", "--out", str(tmp_path), "--tally"]) == 2
    assert "there is no such study" in capsys.readouterr().err


def test_two_networks_fill_and_are_judged_by_one_command(tmp_path):
    random = np.random.default_rng(0)
    hole = np.zeros((36, 40), bool)
    hole[10:20, 8:30] = True
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    pictures = {name: random.integers(0, 256, (36, 40, 3), np.uint8) for name in ("a", "b")}
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(tmp_path / "images" / f"{name}.png")
        Image.fromarray(hole).save(tmp_path / "masks" / f"{name}.png")
    networks = {
        "old": exported(tmp_path / "one"),
        "new": exported(tmp_path / "two", code_source="mapping"),
    }
    out = tmp_path / "out"
    command = [sys.executable, "-m", "gmsrm_jax.cli", "study", "--out", str(out), "--port", "0"]
    command += ["--networks", *(f"{name}={folder}" for name, folder in networks.items())]
    command += ["--images", str(tmp_path / "images"), "--masks", str(tmp_path / "masks")]
    command += ["--repeats", "1", "--device", "cpu"]
    for run in (0, 1):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        heads = [process.stdout.readline() for _ in range(2 if run else 4)]
        assert [head.split(" - ")[0].split(": ")[0] for head in heads[:-2]] == (
            [] if run else ["old", "new"]
        )
        assert "2 methods, 2 samples, 2 for each participant and 1 of them twice" in heads[-2]
        url = re.search(r"http://127\.0\.0\.1:\d+/", heads[-1])[0]
        if run == 0:
            shown = [
                np.asarray(Image.open(io.BytesIO(get(f"{url}image/{ANNA}/0/{place}")[0])))
                for place in (0, 1, "input")
            ]
            number = re.search(rb'data-study="(\w+)"', get(url)[0])[1].decode()
            for position in range(3):
                vote = {"study": number, "participant": ANNA, "position": position}
                post(url, vote | {"ranking": [0, 1]})
        process.send_signal(signal.SIGINT)
        printed = process.communicate(timeout=20)[0]
    picture = next(p for p in pictures.values() if (p[~hole] == shown[2][~hole]).all())
    for pixels in shown:
        np.testing.assert_array_equal(pixels[~hole], picture[~hole])
    assert (shown[2][hole] == 127).all()
    assert (shown[0][hole] != shown[1][hole]).any()
    assert "2 votes of 1 participant on 2 of 2 samples; at second sight" in printed
    files = [file for file in (out / "fillings").rglob("*.png") if file.parent.name != "input"]
    assert len(files) == 4
