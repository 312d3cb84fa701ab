"""docs/first_fill.ipynb: its cells run, in order and from its folder, and it holds no outputs."""

import json
import pathlib
import re
import subprocess
import sys

import pytest

DOCS = pathlib.Path(__file__).parent.parent / "docs"
CELLS = json.loads((DOCS / "first_fill.ipynb").read_text("utf-8"))["cells"]


def code() -> dict[str, str]:
    """The cells of code by their names; plain Python, without a notebook's own commands."""
    return {cell["id"]: "".join(cell["source"]) for cell in CELLS if cell["cell_type"] == "code"}


def test_it_holds_no_outputs_and_its_cells_are_python():
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in CELLS)
    for name, text in code().items():
        compile(text, name, "exec")
    assert next(iter(code())) == "parameters"


@pytest.mark.slow
def test_it_fills_trains_and_compares(tmp_path):
    shortened = {
        "workdir": str(tmp_path / "run"),
        "epochs": 0.01,
        "options": ["--config.batch_size=4", "--config.xla_optimization_level=0"],
    }
    cells = list(code().values())
    cells.insert(1, "".join(f"{name} = {value!r}\n" for name, value in shortened.items()))
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(cells)],
        cwd=DOCS,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    assert " of the picture, by detail, in " in done.stdout
    assert "inpainting: begins as photos-128" in done.stdout
    told = re.search(r"PSNR: (\S+) dB with the bundled weights, (\S+) dB after", done.stdout)
    before, after = map(float, told.groups())
    assert 10 < after < 40 and abs(after - before) < 3
