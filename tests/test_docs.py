"""What README.md and docs/ say: commands parse, links lead somewhere, and the README is short."""

import pathlib
import re
import shlex
import sys

import pytest
from absl import flags
from ml_collections import config_flags

from gmsrm_jax.cli import build_parser
from gmsrm_jax.config import check_config

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def commands() -> list[tuple[str, str]]:
    """(page, command) of every command in a block of bash, continued lines joined."""
    found = []
    for page in PAGES:
        for block in re.findall(r"```bash[^\n]*\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                for part in line.split(" && "):
                    command = shlex.join(shlex.split(part, comments=True))
                    if command.startswith(("gmsrm ", "python ", "make ")):
                        found.append((page.name, command))
    return found


def anchors(page: pathlib.Path) -> set[str]:
    """The anchors that a forge makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}


def check_training(words: list[str]) -> None:
    """Parses the flags of gmsrm_jax.main, the config's fields with them, and checks the config."""
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", None, "", flag_values=values)
    for name in ("workdir", "stage", "mode"):
        flags.DEFINE_string(name, None, "", flag_values=values)
    flags.DEFINE_bool("dry_run", False, "", flag_values=values)
    assert values(words) == ["main"]
    check_config(values.config)


@pytest.mark.parametrize(("page", "command"), commands())
def test_commands_parse(page: str, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    words = shlex.split(command)
    if words[0] == "gmsrm":
        build_parser().parse_args(words[1:])
    elif words[0] == "make":
        makefile = (ROOT / "Makefile").read_text("utf-8")
        targets = [w for w in words[1:] if "=" not in w]
        assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in targets)
    elif words[1:3] == ["-m", "gmsrm_jax.main"]:
        # ml_collections looks there for the fields that are changed.
        monkeypatch.setattr(sys, "argv", ["main", *words[3:]])
        check_training(sys.argv)
    else:
        file = words[2].replace(".", "/") + ".py" if words[1] == "-m" else words[1]
        assert (ROOT / file).is_file(), f"{page}: {command}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: pathlib.Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        path, _, anchor = target.partition("#")
        if path.startswith(("http://", "https://")):
            continue
        file = page.parent / path if path else page
        assert file.exists(), target
        if anchor:
            assert anchor in anchors(file), target


def test_the_readme_is_short_and_leads_to_every_page() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    assert len(readme.splitlines()) <= 200
    linked = {ROOT / path for path in re.findall(r"\]\(((?:docs|launch)/[^)#\s]+)", readme)}
    for page in [path for path in linked if path.suffix == ".md"]:
        text = page.read_text("utf-8")
        linked |= {page.parent / path for path in re.findall(r"\]\(([^)#\s:]+\.md)", text)}
    linked = {path.resolve() for path in linked}
    assert {page for page in PAGES if page.parent.name == "docs"} <= linked
