"""Pure modules stay cheap to import: they load few modules, and no library that only adapters need."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pkgutil import iter_modules

import pytest

import broadway.domain.sheets

MOST = 350  # modules that the import of a pure module may load
MOST_OF_ALL = 400  # modules that the import of the whole domain may load
HEAVY = {"aio_pika", "pymongo", "docker", "starlette", "uvicorn", "httpx2", "prometheus_client", "typer"}
DOMAIN = [
    *(f"broadway.domain.{module.name}" for module in iter_modules(broadway.domain.__path__)),
    *(f"broadway.domain.sheets.{module.name}" for module in iter_modules(broadway.domain.sheets.__path__)),
]
PURE = [
    *(pytest.param(module, marks=pytest.mark.long) for module in DOMAIN),
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
LOADER = """
import gc, importlib, json, os, sys
import pydantic.main, pydantic.fields
gc.disable()

for line in sys.stdin:
    if os.fork() == 0:
        for name in line.split():
            importlib.import_module(name)
        print(json.dumps(sorted(sys.modules)), flush=True)
        os._exit(0)
    if os.wait()[1]:
        sys.exit("the import failed")
"""
Load = Callable[[str], list[str]]


@pytest.fixture(scope="module")
def load() -> Iterator[Load]:
    """Return a function that loads modules in a new process, and returns all modules that are there then."""
    with subprocess.Popen(
        [sys.executable, "-c", LOADER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as loader:
        asked, answered = loader.stdin, loader.stdout
        assert asked
        assert answered

        def load(modules: str) -> list[str]:
            print(modules, file=asked, flush=True)
            loaded: list[str] = json.loads(answered.readline())
            return loaded

        yield load


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_loads_little(module: str, load: Load) -> None:
    loaded = load(module)

    assert module in loaded
    assert HEAVY.isdisjoint(loaded)
    assert len(loaded) <= MOST


def test_the_domain_loads_little(load: Load) -> None:
    """What no import of the whole domain loads is not loaded by a module of it, either."""
    loaded = load(" ".join(DOMAIN))

    assert set(DOMAIN) <= set(loaded)
    assert HEAVY.isdisjoint(loaded)
    assert len(loaded) <= MOST_OF_ALL


def test_the_help_of_commands_waits_for_no_library_of_services() -> None:
    code = "import broadway.cli.app, json, sys; print(json.dumps(sorted(sys.modules)))"
    of_help = {*json.loads(subprocess.check_output([sys.executable, "-c", code]))}

    assert "broadway.cli.app" in of_help
    assert (HEAVY - {"typer"}).isdisjoint(of_help)
    assert not {"pydantic", "pydantic_settings", "systemd_watchdog"} & of_help
