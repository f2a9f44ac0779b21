"""Configs that no course may register: a directory per case, with the config and the expected answer.

In ``case.toml``, ``about`` describes the request, and ``status`` and ``named`` are the status and a text of the answer.
``course`` and ``assignment`` are the names under which the config is registered, in cases where the names are odd.
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
    """Return all cases, by name."""
    return [_case(path) for path in sorted(HERE.iterdir())]


def _case(directory: Path) -> RefusedConfig:
    expected = tomllib.loads((directory / "case.toml").read_text())
    config = json.loads((directory / "config.json").read_text())
    return RefusedConfig(name=directory.name, config=config, **expected)
