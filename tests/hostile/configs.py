"""Configs that no course may register: a directory for each, with the config, and in ``case.toml`` what comes of it.

``about`` says what it asks for, ``status`` and ``named`` what the answer is to have. ``course`` and ``assignment`` are
the names under which it is registered, where those are what is odd.
"""

import json
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

HERE = Path(__file__).parent / "config"


class RefusedConfig(BaseModel):
    """One case."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    config: dict[str, Any]
    about: str
    outcome: Literal["refused"]
    status: int
    named: str
    course: str | None = None
    assignment: str = "mp1"


def load() -> list[RefusedConfig]:
    """All cases, by name."""
    return [_case(path) for path in sorted(HERE.iterdir())]


def _case(directory: Path) -> RefusedConfig:
    told = tomllib.loads((directory / "case.toml").read_text())
    config = json.loads((directory / "config.json").read_text())
    return RefusedConfig(name=directory.name, config=config, **told)
