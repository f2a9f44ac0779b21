"""Command lines, variables and config files of the original's programs: their meaning, and the exit codes."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from harness import Place, free_port, module, until
from processes import Processes, processes
from servers import Node

from broadway.settings.loading import Loaded, read
from broadway.settings.programs import PROGRAMS
from broadway.settings.setting_names import as_text, leaves

GRADER = ("cluster-token", "host1")

SHARED = [
    (("-d", "--debug"), "BROADWAY_DEBUG", "debug", False, True),
    (("--log-dir",), "BROADWAY_LOG_DIR", "log.dir", "logs", "elsewhere"),
    (("--log-level",), "BROADWAY_LOG_LEVEL", "log.level", "INFO", "DEBUG"),
    (("--log-timestamps",), "BROADWAY_LOG_TIMESTAMPS", "log.timestamps", True, False),
    (("--log-rotate",), "BROADWAY_LOG_ROTATE", "log.rotate", "midnight", "H"),
    (("--log-backup",), "BROADWAY_LOG_BACKUP", "log.backup", 7, 3),
]
API = [
    *SHARED,
    (("--token",), "BROADWAY_TOKEN", "token", None, "cluster-token"),
    (("--heartbeat-interval",), None, "heartbeat_interval", 10, 4),
    (("--course-config",), None, "course_config", None, "courses.json"),
    (("--bind-addr",), "BROADWAY_BIND_ADDR", "bind_addr", "localhost", "0.0.0.0"),
    (("--bind-port",), "BROADWAY_BIND_PORT", "bind_port", 1470, 8080),
    (("--mongodb-dsn",), "BROADWAY_MONGODB_DSN", "mongodb.dsn", "mongodb://localhost:27017", "mongodb://other"),
    (("--mongodb-primary",), "BROADWAY_MONGODB_PRIMARY", "mongodb.primary", "AG", "P"),
    (("--mongodb-logs",), "BROADWAY_MONGODB_LOGS", "mongodb.logs", "logs", "L"),
    (("--mongodb-timeout",), "BROADWAY_MONGODB_TIMEOUT", "mongodb.timeout", 5, 2),
]
GRADERS = [
    *SHARED,
    (("--api-host",), "BROADWAY_API_HOST", "api_host", "http://127.0.0.1:1470", "ws://api:1470"),
    (("-v", "--verbose"), "BROADWAY_VERBOSE", "verbose", False, True),
]
ROWS = [*(("api", *row) for row in API), *(("grader", *row) for row in GRADERS)]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("BROADWAY_")]:
        monkeypatch.delenv(name)


def config_file(directory: Path, values: dict[str, Any]) -> str:
    """Write a config file; a dot in a name stands for a nested object."""
    content: dict[str, Any] = {}
    for name, value in values.items():
        *section, key = name.split(".")
        (content.setdefault(section[0], {}) if section else content)[key] = value
    path = directory / "conf.json"
    path.write_text(json.dumps(content))
    return str(path)


def found(program: str, name: str, *arguments: str) -> tuple[Any, str]:
    """Return a setting's value and origin."""
    loaded: Loaded[Any] = read(PROGRAMS[program], prog=program, arguments=arguments)
    leaf = next(each for each in leaves(PROGRAMS[program]) if each.key == name)
    value = loaded.value(leaf)
    value = str(value) if isinstance(value, Path) else value
    return getattr(value, "get_secret_value", lambda: value)(), loaded.origin(leaf)


@pytest.mark.parametrize(
    ("program", "flags", "variable", "name", "default", "other"),
    ROWS,
    ids=[f"{program} {name}" for program, _, _, name, _, _ in ROWS],
)
def test_every_setting_has_the_originals_names_and_default(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    program: str,
    flags: tuple[str, ...],
    variable: str | None,
    name: str,
    default: object,
    other: object,
) -> None:
    names = GRADER if program == "grader" else ()
    assert found(program, name, *names) == (default, "default")

    config = config_file(tmp_path, {name: other})
    assert found(program, name, *names, config) == (other, f"file {config}: {name}")

    if variable:
        monkeypatch.setenv(variable, str(other))
        assert found(program, name, *names) == (other, f"environment {variable}")
        monkeypatch.setenv(variable, str(default))

    for flag in flags:
        assert found(program, name, *names, flag, str(other), config) == (other, f"command line {flags[-1]}")
        assert found(program, name, flag, str(other), *names, config) == (other, f"command line {flags[-1]}")


@pytest.mark.parametrize(
    ("flags", "name"), [(flags, name) for flags, _, name, default, _ in (*API, *GRADERS) if default is False]
)
def test_a_boolean_flag_alone_is_true(flags: tuple[str, ...], name: str) -> None:
    program, names = ("grader", GRADER) if name == "verbose" else ("api", ())
    for flag in flags:
        assert found(program, name, *names, flag)[0] is True


@pytest.mark.parametrize(
    ("position", "variable", "name"), [(0, "BROADWAY_TOKEN", "token"), (1, "BROADWAY_GRADER_ID", "id")]
)
def test_a_graders_arguments_have_the_originals_names(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, position: int, variable: str, name: str
) -> None:
    config = config_file(tmp_path, {"token": "t0", "id": "t0"})
    assert found("grader", name, config) == ("t0", f"file {config}: {name}")

    monkeypatch.setenv(variable, "t1")
    assert found("grader", name, config) == ("t1", f"environment {variable}")

    placeholder = {"token": "TOKEN", "id": "GRADER_ID"}[name]
    assert found("grader", name, *GRADER, config) == (GRADER[position], f"command line {placeholder}")


async def run(*command: str, **environment: str) -> tuple[int, str, str]:
    """Run a module with arguments, and return its exit code, stdout and stderr."""
    done = await module(*command, **environment)
    return done.exit_code, done.stdout, done.stderr


async def test_unknown_flags_and_bad_values_end_with_2_and_a_usage_line() -> None:
    for arguments, named in (
        (["broadway.api", "--wat"], "--wat"),
        (["broadway.api", "--mongodb-timeout", "soon"], "--mongodb-timeout"),
        (["broadway.grader", "token", "id", "--verbose=perhaps"], "--verbose"),
        (["broadway.grader"], "TOKEN"),
    ):
        code, out, err = await run(*arguments)
        usage, *errors = err.splitlines()

        assert (code, out) == (2, "")
        assert usage.startswith(f"usage: python -m {arguments[0]} ")
        assert errors[0].startswith(f"python -m {arguments[0]}: error: ")
        assert named in errors[0]


async def test_a_wrong_environment_or_config_file_ends_with_78_and_a_line(tmp_path: Path) -> None:
    wrong = config_file(tmp_path, {"logs.dir": "x"})
    missing = str(tmp_path / "missing.json")
    for arguments, environment, named in (
        (["broadway.api"], {"BROADWAY_MONGODB_TIMEOUT": "soon"}, "BROADWAY_MONGODB_TIMEOUT"),
        (["broadway.api"], {"BROADWAY_DEBUG": "perhaps"}, "BROADWAY_DEBUG"),
        (["broadway.api", wrong], {}, f"{wrong}: logs"),
        (["broadway.grader", *GRADER, missing], {}, missing),
    ):
        code, out, err = await run(*arguments, **environment)

        assert (code, out) == (78, "")
        (line,) = err.splitlines()
        assert line.startswith(f"python -m {arguments[0]}: error: {named}: ")


async def test_help_ends_with_0_and_has_every_name_and_default() -> None:
    for program, rows in (("api", API), ("grader", GRADERS)):
        for flag in ("-h", "--help"):
            code, out, err = await run(f"broadway.{program}", flag, COLUMNS="300")

            assert (code, err) == (0, "")
            for flags, variable, name, default, _ in rows:
                assert all(f"{flag} " in out for flag in flags)
                ours = variable or f"BROADWAY_{name.upper()}"
                suffix = f"; file {name}; default {as_text(default)}]"
                assert f"[environment {ours}{suffix}" in out or f"[environment {ours}[_FILE]{suffix}" in out


@pytest.fixture
async def started(tmp_path: Path) -> AsyncIterator[Processes]:
    async with processes(tmp_path / "processes", {}) as running:
        yield running


def config_of(place: Place) -> dict[str, Any]:
    environment = place.environment
    return {
        "amqp_url": place.amqp_url,
        "mongodb.dsn": place.mongodb_dsn,
        "mongodb.primary": environment["BROADWAY_MONGODB_PRIMARY"],
        "mongodb.logs": environment["BROADWAY_MONGODB_LOGS"],
    }


async def interrupt(started: Processes, name: str) -> int:
    process = started.running.pop(name)
    process.send_signal(signal.SIGINT)
    return await process.wait()


async def test_the_api_runs_from_a_config_file_alone_and_stops_at_sigint(
    place: Place, started: Processes, tmp_path: Path
) -> None:
    started.is_warm = False  # as it is started elsewhere
    config = config_file(tmp_path, {**config_of(place), "bind_port": str(free_port()), "debug": "no"})
    await started.service("api", config)
    log = started.directory / "logs" / "log"

    await until(lambda: "ready to serve" in started.log("api"))
    assert await interrupt(started, "api") == 0

    lines = [json.loads(line) for line in log.read_text().splitlines()]
    on_stderr = [json.loads(line) for line in started.log("api").splitlines()]
    assert [line["event"] for line in lines] == [line["event"] for line in on_stderr]
    (ready,) = [line for line in lines if line["event"] == "ready to serve"]
    assert (ready["level"], "timestamp" in ready) == ("info", True)
    (generated,) = [line for line in lines if line["event"].startswith("token not given, using ")]
    assert lines.index(generated) < lines.index(ready)


async def test_log_flags_override_the_config_file(place: Place, started: Processes, tmp_path: Path) -> None:
    config = config_file(tmp_path, {**config_of(place), "bind_port": free_port(), "log.dir": "unused", "token": "t"})
    await started.service("api", "--log-dir", "nested/logs", "--log-timestamps", "no", config)

    await until(lambda: "ready to serve" in started.log("api"))
    assert await interrupt(started, "api") == 0

    lines = (started.directory / "nested" / "logs" / "log").read_text().splitlines()
    assert lines
    assert not any("timestamp" in json.loads(line) for line in lines)
    assert not (started.directory / "unused").exists()
    assert "token not given" not in started.log("api")


@pytest.mark.parametrize("program", ["ingest", "dispatcher", "results"])
async def test_each_service_takes_a_config_file_and_stops_at_sigint(
    place: Place, broker_node: Node, started: Processes, tmp_path: Path, program: str
) -> None:
    own = {"bind_port": free_port()} if program == "ingest" else {}
    await started.service(program, config_file(tmp_path, {**config_of(place), **own, "log.level": "DEBUG"}))

    auth = (broker_node.username, broker_node.password)
    async with httpx2.AsyncClient(base_url=broker_node.management_url, auth=auth) as management:

        async def works() -> bool:
            consumers = (await management.get(f"/api/consumers/{place.name}")).json()
            return bool(consumers) or "ready to serve" in started.log(program)

        await until(works)
    assert await interrupt(started, program) == 0


async def test_an_unreachable_store_is_a_critical_line_and_ends_with_1(tmp_path: Path) -> None:
    unreachable = f"mongodb://127.0.0.1:{free_port()}"
    config = config_file(tmp_path, {"mongodb.dsn": unreachable, "mongodb.timeout": "1", "log.dir": ""})
    code, out, err = await run("broadway.api", config)

    assert (code, out) == (1, "")
    (line,) = [json.loads(line) for line in err.splitlines()]
    assert line["level"] == "critical"
    assert "is --mongodb-dsn right, and the server up?" in line["reason"]


async def test_config_show_prints_the_settings_of_a_program(tmp_path: Path) -> None:
    config = config_file(tmp_path, {"mongodb.dsn": "mongodb://user:hush@store", "bind_port": 7})
    variables = {"BROADWAY_TOKEN": "hush", "BROADWAY_LOG_TIMESTAMPS": "no"}
    show = ["broadway", "config", "show", "--origin"]
    code, out, err = await run(*show, "api", config, "-d", "--bind-port", "80", **variables)

    assert (code, err) == (0, "")
    head, *lines = [line.split("\t") for line in out.splitlines()]
    assert head == ["name", "value", "from"]
    assert [name for name, _, _ in lines] == [leaf.key for leaf in leaves(PROGRAMS["api"])]
    shown = {name: (value, origin) for name, value, origin in lines}
    assert shown["mongodb.dsn"] == ("mongodb://***@store", f"file {config}: mongodb.dsn")
    assert shown["token"] == ("***", "environment BROADWAY_TOKEN")
    assert shown["amqp_url"] == ("amqp://***@localhost:5672/", "default")
    assert shown["log.timestamps"] == ("false", "environment BROADWAY_LOG_TIMESTAMPS")
    assert shown["bind_port"] == ("80", "command line --bind-port")
    assert shown["debug"] == ("true", "command line --debug")
    assert shown["course_config"] == ("none", "default")


async def test_config_show_prints_json_and_defaults_to_the_api(tmp_path: Path) -> None:
    config = config_file(tmp_path, {"course_config": "courses.json"})
    api, grader = await asyncio.gather(
        run("broadway", "config", "show", config, "--json"),
        run("broadway", "config", "show", "grader", "-v", *GRADER, "--json", "--origin"),
    )

    assert {"name": "course_config", "value": "courses.json"} in json.loads(api[1])
    assert {"name": "bind_port", "value": 1470} in json.loads(api[1])
    assert {"name": "verbose", "value": True, "origin": "command line --verbose"} in json.loads(grader[1])
    assert {"name": "id", "value": "host1", "origin": "command line GRADER_ID"} in json.loads(grader[1])
    assert "cluster-token" not in grader[1]


async def test_config_show_reports_the_errors_of_the_program(tmp_path: Path) -> None:
    wrong = config_file(tmp_path, {"bind_port": "x"})
    for program, arguments in (
        ("api", [wrong]),
        ("api", ["--wat"]),
        ("dispatcher", ["--ready-share", "2"]),
        ("grader", ["t"]),
    ):
        itself, shown = await asyncio.gather(
            run(f"broadway.{program}", *arguments), run("broadway", "config", "show", program, *arguments)
        )
        assert shown == itself
        assert shown[0] == (78 if arguments == [wrong] else 2)
