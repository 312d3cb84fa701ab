"""The cheap commands of README.md and docs/ run, on tiny pictures and with a tiny network.

The README's evaluation, export and page run in .ci/run; trainings in test_runs.py, where they are
short. What remains is only parsed, by test_docs.py.
"""

import functools
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from exported_networks import exported
from made_workdir import made_workdir
from PIL import Image
from test_docs import ROOT, commands

from gmsrm_jax.cli import main
from gmsrm_jax.inference.inpainter import Inpainter

RUN = re.compile(r"gmsrm (inpaint|data DIR|masks show DIR|masks assign --images DIR|doctor)\b")
# What DIR means: by the option before it, or by the command.
DIR = {
    "--mask": "masks",
    "--masks": "masks",
    "--output": "out",
    "show": "masks",
    "--image": "photos",
}
SIDE, SHARES = 32, 8


def write_pictures(folder: Path, seed: int, count: int) -> None:
    folder.mkdir(parents=True)
    for index in range(count):
        pixels = np.random.default_rng(seed + index).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{index}.png")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder in which the commands find what they name; the weights are loaded once."""
    tiny = str(exported(tmp_path / "tiny"))
    load = functools.cache(Inpainter.from_pretrained)
    monkeypatch.setattr(
        Inpainter, "from_pretrained", lambda name=None, **options: load(name or tiny, **options)
    )
    monkeypatch.chdir(tmp_path)
    for name in ("gmsrm_jax", "docs", "configs"):
        Path(name).symlink_to(ROOT / name)
    for folder, seed, count in (("pictures/train", 0, 30), ("pictures/test", 30, 4)):
        write_pictures(Path(folder), seed, count)
    write_pictures(Path("photos"), 0, 8)
    Path("masks").mkdir()
    for index, ratio in enumerate((0.05, 0.15, 0.25, 0.35, 0.45, 0.55, 0.2, 0.3)):
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[: round(SIDE * ratio)] = 255
        Image.fromarray(mask).save(f"masks/{index}.png")
    Image.open("photos/0.png").save("photo.jpg")
    shutil.copy("masks/3.png", "mask.png")
    Path("runs").mkdir()
    made = made_workdir(tmp_path / "made")
    for name in ("demo", "finetune"):
        Path("runs", name).symlink_to(made)
    return tmp_path


def with_folders(words: list[str]) -> list[str]:
    return [
        DIR.get(before, "pictures") if word == "DIR" else word
        for before, word in zip(["", *words], words, strict=False)
    ]


@pytest.mark.slow
def test_the_cheap_commands_run(place, capsys):
    run = [command for _, command in dict.fromkeys(commands()) if RUN.match(command)]
    assert len(run) > 10
    for command in dict.fromkeys(run):
        words = with_folders(shlex.split(command)[1:])
        numbers = range(SHARES) if "--shard" in words else [0]
        if "--output" in words and "--join" not in words:  # another command's
            output = Path(words[words.index("--output") + 1])
            shutil.rmtree(output) if output.is_dir() else output.unlink(missing_ok=True)
        for number in numbers:
            given = [re.sub(rf"^\d/{SHARES}$", f"{number}/{SHARES}", word) for word in words]
            assert main(given) == 0, (command, capsys.readouterr())
    assert Path("filled.png").exists()
    assert len(Path("out/manifest.jsonl").read_text().splitlines()) == 8
