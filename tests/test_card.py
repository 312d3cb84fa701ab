"""The model card: facts, notes on the training."""

import pathlib

import pytest
from exported_networks import tiny_network

from gmsrm_jax.networks import load_pretrained, save_pretrained
from gmsrm_jax.runtime.errors import UserError


def test_card_says_what_is_known_and_what_is_not(tmp_path: pathlib.Path) -> None:
    network = tiny_network(data="my | garden", steps="12")
    save_pretrained(tmp_path / "out", network, card_facts={"licence": "CC0", "steps": "13"})
    card = (tmp_path / "out" / "README.md").read_text()
    rows = dict(line.strip("| ").split(" | ", 1) for line in card.splitlines() if " | " in line[2:])
    assert rows["Training pictures"] == "my \\| garden"
    assert rows["Licence of the weights"] == "CC0"
    assert rows["Training steps"] == "13"
    assert rows["Hardware"] == rows["Training time"] == "not known"
    assert network.sha256 in rows["Weights"]
    assert load_pretrained(tmp_path / "out").facts == {
        "data": "my | garden",
        "licence": "CC0",
        "steps": "13",
    }
    with pytest.raises(UserError, match=r"'colour' is no fact.*hardware"):
        save_pretrained(tmp_path / "other", network, card_facts={"colour": "blue"})
    with pytest.raises(UserError, match="the fact data is not UTF-8"):
        save_pretrained(tmp_path / "other", network, card_facts={"data": "\udcff"})


def test_a_fact_is_no_template(tmp_path: pathlib.Path) -> None:
    text = "{{ size }} {% include 'card.md.j2' %} {# & <b> #}"
    save_pretrained(tmp_path / "out", tiny_network(data=text, notes=text, table=text, limits=text))
    assert (tmp_path / "out" / "README.md").read_text().count(text) == 4


def headings(folder: pathlib.Path) -> list[str]:
    """The headings of a folder's card behind the first."""
    lines = (folder / "README.md").read_text().splitlines()
    return [line.removeprefix("## ") for line in lines if line.startswith("## ")]


def test_notes_have_a_heading_of_their_own(tmp_path: pathlib.Path) -> None:
    plain, noted = tmp_path / "plain", tmp_path / "noted"
    notes = "It **grew** from 32 px.\n\n| a | b |\n| --- | --- |\n| 1 | 2 |"
    save_pretrained(plain, tiny_network())
    save_pretrained(noted, tiny_network(), card_facts={"notes": f"\n{notes}\n"})
    assert headings(plain) == ["Use", "Scores", "Limits"]
    assert headings(noted) == ["Use", "Scores", "Training", "Limits"]
    assert f"\n\n## Training\n\n{notes}\n\n## Limits\n" in (noted / "README.md").read_text()
    assert load_pretrained(noted).facts == {"notes": notes}
    with pytest.raises(UserError, match="the fact notes has 20001 characters; use 20000 at most"):
        save_pretrained(tmp_path / "long", tiny_network(), card_facts={"notes": "a" * 20_001})
