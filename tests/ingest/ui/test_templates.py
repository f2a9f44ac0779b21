"""Rules that all templates keep, so that no text of a student becomes markup, and no policy is broken."""

import re
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from broadway.cli.app import app
from broadway.ingest.ui import statics, templating

TEMPLATES = sorted(templating.TEMPLATES.glob("*.html"))
SOURCES = sorted(Path(templating.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_has_no_markup_of_its_values_and_nothing_inline(path: Path) -> None:
    text = path.read_text()
    for forbidden in (r"\|\s*safe\b", r"autoescape", r"\sstyle=", r"\son\w+=", r"<script(?! type=\"module\" src=)"):
        assert not re.search(forbidden, text), forbidden
    assert not re.search(r"(?:href|src|action)=\"(?:https?:)?//", text)
    assert not re.search(r"\s[\w-]+=\s*\{\{", text), "an attribute without quotes"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_one_module_alone_makes_markup(path: Path) -> None:
    assert ("Markup(" in path.read_text()) is (path.name == "markup.py")


def test_every_template_can_be_read() -> None:
    made = templating.environment()
    assert made.autoescape is True
    for path in TEMPLATES:
        made.get_template(path.name)


def test_the_first_load_is_small() -> None:
    assert len((statics.DIRECTORY / "page.js").read_text().splitlines()) <= 200
    assert sum(len(file.packed) for file in statics.files().values()) < 20_000


def test_no_static_file_asks_another_host() -> None:
    for path in statics.DIRECTORY.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|@import|url\(", text), path.name


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_command_on_a_page_is_a_command(path: Path) -> None:
    groups: Any = get_command(app)
    for group, command in re.findall(r"<code>broadway (\w+) ([a-z-]+)", path.read_text()):
        assert command in groups.commands[group].commands, f"{group} {command}"


@pytest.mark.parametrize("word", ["pod", "container id", "nack", "exit 137", "worker"])
def test_words_of_the_machinery_are_on_no_page(word: str) -> None:
    for path in TEMPLATES:
        assert not re.search(rf"\b{word}\b", path.read_text(), re.IGNORECASE), path.name
