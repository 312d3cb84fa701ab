"""The tools behind the bundled weights: mix_pictures and blend_networks."""

import importlib
import pathlib
import sys
from typing import Any

import jax
import numpy as np
import pytest
from exported_networks import exported, tiny_config, tiny_variables

from gmsrm_jax.networks import load_pretrained, save_pretrained
from gmsrm_jax.networks.folder import pretrained

TOOLS = pathlib.Path(__file__).parent.parent / "tools"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(TOOLS))

    def run(name: str, *words: str) -> int:
        monkeypatch.setattr(sys, "argv", [name, *words])
        return importlib.import_module(name).main()

    return run


def test_a_share_of_the_way_between_two_networks(tool, tmp_path, capsys):
    exported(tmp_path / "first")
    moved = jax.tree.map(lambda leaf: leaf + 2, tiny_variables())
    save_pretrained(tmp_path / "second", pretrained(tiny_config(), moved, "made up"))
    first, second = str(tmp_path / "first"), str(tmp_path / "second")
    out = tmp_path / "out"
    assert tool("blend_networks", first, second, "--share", "0.25", "--output", str(out)) == 0
    jax.tree.map(
        lambda found, begun: np.testing.assert_allclose(found, np.float64(begun) + 0.5, rtol=1e-5),
        load_pretrained(out).variables,
        tiny_variables(),
    )
    other = tmp_path / "other"
    save_pretrained(other, pretrained(tiny_config("base"), tiny_variables("base"), "made up"))
    assert tool("blend_networks", first, str(other), "--output", str(tmp_path / "no")) == 2
    assert "networks of other forms" in capsys.readouterr().err
    assert tool("blend_networks", first, second, "--share", "2", "--output", "no") == 2
    assert "--share 2: write a number from 0 to 1" in capsys.readouterr().err


def test_sources_are_linked_so_many_times_and_held_out_pictures_never(tool, tmp_path, capsys):
    for split, count in (("train", 6), ("val", 2)):
        for source in ("cat", "dog"):
            for number in range(count):
                path = tmp_path / "set" / split / f"{source}_{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{split} {source} {number}")
    out = tmp_path / "out"
    tool("mix_pictures", f"s={tmp_path / 'set'}", "--times", "dog=3", "--out", str(out))
    held = {path.read_text() for path in (out / "val").iterdir()}
    trained = [path.read_text() for path in (out / "train").iterdir()]
    assert len(held) == 8 and not held & set(trained)
    assert {source: sum(source in text for text in trained) for source in ("cat", "dog")} == {
        "cat": 2,
        "dog": 6,
    }
    assert len(set(trained)) == 4
    assert sorted(path.name for path in (out / "test").iterdir()) == [
        f"s-{source}_{number}.png" for source in ("cat", "dog") for number in range(2)
    ]
    words = (f"s={tmp_path / 'set'}", "--out")
    assert tool("mix_pictures", *words, str(out)) == 2
    assert f"{out}: is there already; name another --out" in capsys.readouterr().err
    other = str(tmp_path / "other")
    assert tool("mix_pictures", *words, other, "--times", "cow=2") == 2
    assert "there is no source cow; use any of: cat, dog" in capsys.readouterr().err
    assert tool("mix_pictures", f"s={tmp_path}", "--out", other) == 2
    assert f"{tmp_path / 'train'}: no such folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        tool("mix_pictures", *words, other, "--times", "cat=many")
    assert "'cat=many': write SOURCE=N" in capsys.readouterr().err
    for part in ("a", "b"):
        (tmp_path / "set" / "train" / part).mkdir()
        (tmp_path / "set" / "train" / part / "cow_0.png").write_text(part)
    (tmp_path / "set" / "val" / "a").mkdir()
    (tmp_path / "set" / "val" / "a" / "cat_0.png").write_text("again")
    assert tool("mix_pictures", *words, other) == 2
    assert "cat_0.png: the name is taken" in capsys.readouterr().err
    assert not (tmp_path / "other").exists()
    assert not (tmp_path / "other").exists()
