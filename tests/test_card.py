"""The model card: facts, notes on the training, figures."""

import io
import pathlib
from collections.abc import Callable

import pytest
from exported_networks import tiny_network
from PIL import Image

from gmsrm_jax.commands.doctor import problems_of_network
from gmsrm_jax.networks import load_pretrained, save_pretrained
from gmsrm_jax.runtime.errors import UserError

FILES = ["README.md", "SHA256SUMS", "config.json", "model.safetensors"]


def names(path: pathlib.Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


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


def png(grey: int = 0) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (4, 4), grey).save(stream, "PNG")
    return stream.getvalue()


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


def test_figures_are_files_of_the_folder(tmp_path: pathlib.Path) -> None:
    out = tmp_path / "out"
    figures = {"b-2.png": (png(1), "Second,\n of two"), "a_1.png": (png(2), "First")}
    save_pretrained(out, tiny_network(notes="Grown."), card_figures=figures)
    assert names(out) == sorted([*FILES, "a_1.png", "b-2.png"])
    assert {name: (out / name).read_bytes() for name in figures} == {
        "b-2.png": png(1),
        "a_1.png": png(2),
    }
    assert problems_of_network(out) == []
    assert headings(out) == ["Use", "Scores", "Training", "Figures", "Limits"]
    assert (
        "Grown.\n\n## Figures\n\n![Second, of two](b-2.png)\n\nSecond, of two\n\n"
        "![First](a_1.png)\n\nFirst\n\n## Limits\n"
    ) in (out / "README.md").read_text()
    # A figure is for the eye, as the card is: no network depends on it.
    (out / "a_1.png").write_bytes(png(3))
    assert load_pretrained(out).sha256 == tiny_network().sha256
    assert problems_of_network(out) == ["a_1.png is not what was written"]


@pytest.mark.parametrize(
    ("caption", "shown"),
    [
        ("GM-SRM, 128 px (2.5 % holes): why?", "GM-SRM, 128 px (2.5 % holes): why?"),
        ("](x) ![y](z) [1]", r"\](x) !\[y\](z) \[1\]"),
        ("*a* _b_ `c` ~d~ $e$", r"\*a\* \_b\_ \`c\` \~d\~ \$e\$"),
        ("<b> &amp; | \\", r"\<b\> \&amp; \| \\"),
        ("# one", r"\# one"),
        ("- one", r"\- one"),
        ("+ one", r"\+ one"),
        ("---", r"\---"),
        ("> one", r"\> one"),
        ("1. one", r"1\. one"),
        ("12) one", r"12\) one"),
        ("    one\n\n\ttwo ", "one two"),
        ("{{ size }} {% if a %} {# b #}", "{{ size }} {% if a %} {# b #}"),
    ],
)
def test_a_caption_is_plain_text(tmp_path: pathlib.Path, caption: str, shown: str) -> None:
    save_pretrained(tmp_path / "out", tiny_network(), card_figures={"a.png": (png(), caption)})
    card = (tmp_path / "out" / "README.md").read_text()
    assert f"\n\n![{shown}](a.png)\n\n{shown}\n\n## Limits\n" in card


def figure_refusal(tmp_path: pathlib.Path, name: str, data: bytes, caption: str) -> str:
    """The one line with which a figure is refused, before anything is written."""
    with pytest.raises(UserError) as caught:
        save_pretrained(tmp_path / "out", tiny_network(), card_figures={name: (data, caption)})
    assert names(tmp_path) == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["a.jpg", "a b.png", "a.b.png", "_a.png", "../a.png", "a.png\n", ".png", "é.png", "README.md"],
)
def test_names_that_no_figure_has(tmp_path: pathlib.Path, name: str) -> None:
    assert figure_refusal(tmp_path, name, png(), "A").startswith(f"{name!r}: a figure has a name")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda data: b"", "is no PNG file"),
        (lambda data: b"GIF89a" + data, "is no PNG file"),
        (lambda data: data[:-9], "is no PNG file"),
        (lambda data: data[:-20] + b"x" + data[-19:], "is no PNG file"),
        (lambda data: data + bytes(4 << 20), "bytes, and a figure has 4194304 at most"),
    ],
)
def test_files_that_are_no_figure(
    tmp_path: pathlib.Path, damage: Callable[[bytes], bytes], said: str
) -> None:
    message = figure_refusal(tmp_path, "a.png", damage(png()), "A")
    assert message.startswith("a.png: ")
    assert said in message


@pytest.mark.parametrize(
    ("caption", "said"),
    [
        (" \n", "a.png: has no caption"),
        ("a" * 501, "the caption of a.png has 501 characters; use 500 at most"),
        ("\udcff", "the caption of a.png is not UTF-8"),
    ],
)
def test_captions_that_are_refused(tmp_path: pathlib.Path, caption: str, said: str) -> None:
    assert figure_refusal(tmp_path, "a.png", png(), caption).startswith(said)


def test_no_more_figures_than_a_card_can_hold(tmp_path: pathlib.Path) -> None:
    figures = {f"{index}.png": (png(), "One of many") for index in range(21)}
    with pytest.raises(UserError, match="21 figures are given, and a card holds 20 at most"):
        save_pretrained(tmp_path / "out", tiny_network(), card_figures=figures)
    figures.popitem()
    save_pretrained(tmp_path / "out", tiny_network(), card_figures=figures)
    assert load_pretrained(tmp_path / "out").sha256 == tiny_network().sha256


def test_figures_are_not_lost_silently(tmp_path: pathlib.Path) -> None:
    out, network = tmp_path / "out", tiny_network()
    figures = {"a.png": (png(1), "A"), "b.png": (png(2), "B")}
    save_pretrained(out, network, card_figures=figures)
    before = (out / "SHA256SUMS").read_bytes()
    with pytest.raises(UserError, match=r"holds the figures a.png, b.png.*--card-figure") as caught:
        save_pretrained(out, tiny_network("base"), overwrite=True)
    assert "\n" not in str(caught.value)
    # A picture that SHA256SUMS does not list is somebody's own, whatever is given.
    (out / "mine.png").write_bytes(png(3))
    for given in ({}, figures):
        with pytest.raises(UserError, match=r"holds mine.png, which is no part"):
            save_pretrained(out, network, overwrite=True, card_figures=given)
    (out / "mine.png").unlink()
    assert (out / "SHA256SUMS").read_bytes() == before
    assert names(out) == sorted([*FILES, *figures])
    save_pretrained(out, tiny_network("base"), overwrite=True, card_figures={"c.png": (png(), "C")})
    assert names(out) == sorted([*FILES, "c.png"])
    assert load_pretrained(out).config.variant == "base"
    # What a damaged list belongs to cannot be told.
    (out / "SHA256SUMS").write_text("nonsense")
    with pytest.raises(UserError, match=r"SHA256SUMS: line 1 .*name another folder"):
        save_pretrained(out, network, overwrite=True, card_figures=figures)
    (out / "SHA256SUMS").unlink()
    with pytest.raises(UserError, match=r"holds README.md, c.png, "):
        save_pretrained(out, network, overwrite=True, card_figures=figures)
