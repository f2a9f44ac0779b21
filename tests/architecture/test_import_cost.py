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
# Each module is loaded by a process of its own, forked from one that has loaded the library of most of them.
LOAD = """
import importlib, json, os, sys
import pydantic.main, pydantic.fields

for name in sys.argv[1:]:
    if os.fork() == 0:
        importlib.import_module(name)
        print(json.dumps([name, sorted(sys.modules)]), flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """The modules that each module has in its process, once it is loaded."""
    lines = subprocess.check_output([sys.executable, "-c", LOAD, *PURE, "broadway.cli.app"], text=True)
    return dict(map(json.loads, lines.splitlines()))


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_loads_little(module: str, loaded: dict[str, list[str]]) -> None:
    assert module in loaded[module]
    assert HEAVY.isdisjoint(loaded[module])
    assert len(loaded[module]) <= MOST


def test_the_help_of_commands_waits_for_no_library_of_services(loaded: dict[str, list[str]]) -> None:
    of_help = {*loaded["broadway.cli.app"]}

    assert (HEAVY - {"typer"}).isdisjoint(of_help)
    assert not {"pydantic_settings", "broadway.settings.programs", "systemd_watchdog"} & of_help
