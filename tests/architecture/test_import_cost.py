"""Pure modules stay cheap to import: they load few modules, and no library that only adapters need."""

import json
import subprocess
import sys
from pkgutil import iter_modules

import pytest

import broadway.domain.sheets

MOST = 350  # modules that the import of a pure module may load
HEAVY = {"aio_pika", "pymongo", "docker", "starlette", "uvicorn", "httpx2", "prometheus_client", "typer"}
PURE = [
    *(f"broadway.domain.{module.name}" for module in iter_modules(broadway.domain.__path__)),
    *(f"broadway.domain.sheets.{module.name}" for module in iter_modules(broadway.domain.sheets.__path__)),
    "broadway.messages.topology",
    "broadway.grader.grading.verdict",
    "broadway.grader.grading.scores",
    "broadway.ingest.live.waiting_line",
    "broadway.ingest.commands.limits",
    "broadway.ingest.commands.signatures",
    "broadway.dispatcher.fairshare",
    "broadway.dispatcher.board",
    "broadway.mongo.cache",
    "broadway.cli.terminal",
]
LOAD = "import importlib, json, sys; importlib.import_module(sys.argv[1]); print(json.dumps(sorted(sys.modules)))"


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_loads_little(module: str) -> None:
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", LOAD, module]))

    assert module in loaded
    assert HEAVY.isdisjoint(loaded)
    assert len(loaded) <= MOST


def test_the_help_of_commands_waits_for_no_library_of_services() -> None:
    loaded = json.loads(subprocess.check_output([sys.executable, "-c", LOAD, "broadway.cli.app"]))

    assert (HEAVY - {"typer"}).isdisjoint(loaded)
    assert not {"pydantic_settings", "broadway.settings.programs", "systemd_watchdog"} & set(loaded)
