"""docs/configuration.md lists the settings of every program."""

import re
from pathlib import Path

import pytest

from broadway.settings.programs import PROGRAMS
from broadway.settings.setting_names import Leaf, leaves

DOCUMENT = Path(__file__).parents[2] / "docs" / "configuration.md"


def rows(program: str) -> list[str]:
    sections = re.split(r"^### `python -m broadway\.(\w+)`$", DOCUMENT.read_text(), flags=re.MULTILINE)
    text = dict(zip(sections[1::2], sections[2::2], strict=True))[program]
    return [line for line in text.splitlines() if line.startswith("| `")]


def row(leaf: Leaf) -> str:
    flags = ", ".join(f"`{flag}`" for flag in (leaf.names.short, leaf.flag) if flag)
    return f"| {flags} | `{leaf.variable}` | `{leaf.key}` | `{leaf.default}` | {leaf.field.description} |"


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_document_lists_every_setting_of_a_program(program: str) -> None:
    assert rows(program) == [row(leaf) for leaf in leaves(PROGRAMS[program])]
