"""The command `gmsrm study`."""

import json
import re
import signal
import subprocess
import sys

import pytest
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
        (["--methods", "a=b"], "--methods: 1 given; give 2 to 9"),
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
        "gmsrm: error: gmsrm study needs fastapi, which is not installed; pip install"
        " 'gmsrm-jax[serve]'\n"
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
        assert f"; {position} votes so far" in head[0]
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
