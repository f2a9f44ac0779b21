"""Settings: flags before environment before defaults, and mistakes that are told in one line."""

import asyncio
import os
import sys
from datetime import timedelta
from typing import Any

import pytest

from broadway.settings import (
    ApiSettings,
    DispatcherSettings,
    GraderSettings,
    IngestSettings,
    ResultsSettings,
    ServiceSettings,
    load,
)

PROGRAMS: dict[str, tuple[type[Any], list[str]]] = {
    "api": (ApiSettings, []),
    "ingest": (IngestSettings, []),
    "dispatcher": (DispatcherSettings, []),
    "results": (ResultsSettings, []),
    "grader": (GraderSettings, ["cluster-token", "host1"]),
}
EACH_PROGRAM = pytest.mark.parametrize("program", PROGRAMS)
SERVICES = [program for program in PROGRAMS if program != "grader"]
SECRET = "hush-hush"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("BROADWAY_")]:
        monkeypatch.delenv(name)


def read(program: str, *arguments: str) -> Any:
    kind, needed = PROGRAMS[program]
    return load(kind, prog=program, arguments=[*needed, *arguments])


def value_at(settings: Any, path: str) -> Any:
    for name in path.split("."):
        settings = getattr(settings, name)
    return settings.get_secret_value() if hasattr(settings, "get_secret_value") else settings


def refusal(capsys: pytest.CaptureFixture[str], program: str, *arguments: str) -> str:
    with pytest.raises(SystemExit) as ended:
        read(program, *arguments)
    assert ended.value.code == 78
    return capsys.readouterr().err


@EACH_PROGRAM
def test_defaults_are_the_originals(program: str) -> None:
    settings = read(program)

    assert (settings.log.dir, settings.log.level, settings.log.timestamps) == ("logs", "INFO", True)
    assert (settings.log.rotate, settings.log.backup) == ("midnight", 7)
    if isinstance(settings, ServiceSettings):
        assert settings.mongodb.dsn == "mongodb://localhost:27017"
        assert (settings.mongodb.primary, settings.mongodb.logs, settings.mongodb.timeout) == ("AG", "logs", 5)
        assert settings.heartbeat_interval == 10
    if isinstance(settings, IngestSettings):
        assert (settings.bind_addr, settings.bind_port, settings.token) == ("localhost", 1470, None)


@pytest.mark.parametrize(
    ("flag", "variable", "path", "one", "two"),
    [
        ("--mongodb-dsn", "BROADWAY_MONGODB_DSN", "mongodb.dsn", "mongodb://one", "mongodb://two"),
        ("--mongodb-primary", "BROADWAY_MONGODB_PRIMARY", "mongodb.primary", "P1", "P2"),
        ("--mongodb-logs", "BROADWAY_MONGODB_LOGS", "mongodb.logs", "L1", "L2"),
        ("--mongodb-timeout", "BROADWAY_MONGODB_TIMEOUT", "mongodb.timeout", 1, 2),
        ("--log-dir", "BROADWAY_LOG_DIR", "log.dir", "", "elsewhere"),
        ("--log-level", "BROADWAY_LOG_LEVEL", "log.level", "DEBUG", "ERROR"),
        ("--log-rotate", "BROADWAY_LOG_ROTATE", "log.rotate", "H", "w6"),
        ("--log-backup", "BROADWAY_LOG_BACKUP", "log.backup", 1, 2),
        ("--amqp-url", "BROADWAY_AMQP_URL", "amqp_url", "amqp://one", "amqp://two"),
        ("--heartbeat-interval", "BROADWAY_HEARTBEAT_INTERVAL", "heartbeat_interval", 1, 2),
        ("--token", "BROADWAY_TOKEN", "token", "t1", "t2"),
        ("--bind-addr", "BROADWAY_BIND_ADDR", "bind_addr", "::1", "0.0.0.0"),
        ("--bind-port", "BROADWAY_BIND_PORT", "bind_port", 1, 2),
        ("--max-job-seconds", "BROADWAY_MAX_JOB_SECONDS", "max_job_seconds", 1.5, 2.5),
        ("--ready-share", "BROADWAY_READY_SHARE", "ready_share", 0.5, 1.0),
    ],
)
def test_flags_come_before_the_environment(
    monkeypatch: pytest.MonkeyPatch, flag: str, variable: str, path: str, one: object, two: object
) -> None:
    default = value_at(read("api"), path)
    monkeypatch.setenv(variable, str(one))
    assert value_at(read("api"), path) == one != default

    assert value_at(read("api", flag, str(two)), path) == two
    assert value_at(read("api", f"{flag}={two}"), path) == two


def test_a_part_of_a_section_leaves_its_other_parts_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROADWAY_MONGODB_DSN", "mongodb://one")
    mongodb = read("api", "--mongodb-logs", "L1").mongodb

    assert (mongodb.dsn, mongodb.logs, mongodb.primary) == ("mongodb://one", "L1", "AG")


@pytest.mark.parametrize(("text", "value"), [("false", False), ("0", False), ("true", True), ("1", True)])
def test_booleans_of_the_environment_mean_what_they_say(
    monkeypatch: pytest.MonkeyPatch, text: str, *, value: bool
) -> None:
    monkeypatch.setenv("BROADWAY_DEBUG", text)
    monkeypatch.setenv("BROADWAY_LOG_TIMESTAMPS", text)
    settings = read("api")

    assert (settings.debug, settings.log.timestamps) == (value, value)


def test_booleans_of_the_command_line() -> None:
    settings = read("api", "--debug", "--no-log-timestamps", "--allow-privileged")

    assert (settings.debug, settings.log.timestamps, settings.allow_privileged) == (True, False, True)


def test_a_graders_names_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROADWAY_TOKEN", "t1")
    monkeypatch.setenv("BROADWAY_GRADER_ID", "g1")

    for arguments, expected in (([], ("t1", "g1")), (["t2"], ("t2", "g1")), (["t2", "g2"], ("t2", "g2"))):
        settings = load(GraderSettings, prog="grader", arguments=arguments)
        assert (settings.token.get_secret_value(), settings.grader_id) == expected


def test_a_grader_without_names_is_told_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load(GraderSettings, prog="grader", arguments=[])

    assert ended.value.code == 78
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[:2] for line in lines] == [["grader", " token"], ["grader", " grader_id"]]


@pytest.mark.parametrize(
    ("program", "flag", "value", "named"),
    [
        ("api", "--bind-port", "http", "bind_port"),
        ("api", "--bind-port", "65536", "bind_port"),
        ("api", "--max-body-size", "0", "max_body_size"),
        ("api", "--max-job-seconds", "-1", "max_job_seconds"),
        ("results", "--log-level", "LOUD", "log.level"),
        ("results", "--log-rotate", "never", "log.rotate"),
        ("results", "--log-backup", "-1", "log.backup"),
        ("results", "--mongodb-timeout", "soon", "mongodb.timeout"),
        ("results", "--max-attempts", "0", "max_attempts"),
        ("results", "--retry-backoff", "inf", "retry_backoff"),
        ("dispatcher", "--ready-share", "1.5", "ready_share"),
        ("dispatcher", "--interactive-share", "1", "interactive_share"),
        ("dispatcher", "--reconcile-interval", "nan", "reconcile_interval"),
        ("grader", "--slots", "0", "slots"),
        ("grader", "--pool", "a b", "pool"),
        ("grader", "--api-host", "ws://localhost", "api_host"),
        ("grader", "--output-limit", "1", "output_limit"),
    ],
)
def test_a_wrong_flag_is_named(
    capsys: pytest.CaptureFixture[str], program: str, flag: str, value: str, named: str
) -> None:
    (line,) = refusal(capsys, program, flag, value).splitlines()

    assert line.startswith(f"{program}: ")
    assert f"{named}:" in line


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("BROADWAY_MONGODB_TIMEOUT", "soon", "mongodb.timeout"),
        ("BROADWAY_HEARTBEAT_INTERVAL", "0", "heartbeat_interval"),
        ("BROADWAY_DEBUG", "perhaps", "debug"),
        ("BROADWAY_LOG_FOLDER", "x", "log.folder"),
        ("BROADWAY_MONGODB", "mongodb://x", "mongodb"),
    ],
)
def test_a_wrong_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str, named: str
) -> None:
    monkeypatch.setenv(variable, value)
    (line,) = refusal(capsys, "api").splitlines()

    assert named in line


def test_every_mistake_has_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    told = refusal(capsys, "api", "--bind-port", "x", "--max-attempts", "0", "--log-level", "LOUD")

    assert len(told.splitlines()) == 3


@EACH_PROGRAM
@pytest.mark.parametrize("by_environment", [False, True])
def test_secrets_are_not_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], program: str, *, by_environment: bool
) -> None:
    url = f"amqp://user:{SECRET}@host/"
    secrets = {"AMQP_URL": url}
    if program in SERVICES:
        secrets["MONGODB_DSN"] = f"mongodb://user:{SECRET}@host"
    if program in ("api", "ingest"):
        secrets |= {"TOKEN": SECRET, "GRADER_AMQP_URL": url}
    arguments = []
    for name, value in secrets.items():
        if by_environment:
            monkeypatch.setenv(f"BROADWAY_{name}", value)
        else:
            arguments += [f"--{name.lower().replace('_', '-')}", value]

    settings = read(program, *arguments)
    assert value_at(settings, "amqp_url") == url
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)

    assert SECRET not in refusal(capsys, program, *arguments, "--log-backup", "x")
    with pytest.raises(SystemExit):
        read(program, *arguments, "--help")
    assert SECRET not in capsys.readouterr().out


def test_a_graders_token_is_not_shown() -> None:
    assert SECRET not in repr(load(GraderSettings, prog="grader", arguments=[SECRET, "g1"]))


def test_what_services_derive() -> None:
    settings = read("results", "--heartbeat-interval", "4", "--max-attempts", "5", "--retry-backoff", "0.5")

    assert settings.lease == timedelta(seconds=12)
    assert settings.retry_policy.max_attempts == 5
    assert settings.retry_policy.backoff == timedelta(seconds=0.5)


async def run(program: str, *arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"broadway.{program}", *arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_every_program_explains_itself_and_its_mistakes() -> None:
    helped, mistaken = await asyncio.gather(
        asyncio.gather(*(run(program, "--help") for program in PROGRAMS)),
        asyncio.gather(*(run(program, *needed, "--log-backup", "x") for program, (_, needed) in PROGRAMS.items())),
    )

    for program, (code, out, err) in zip(PROGRAMS, helped, strict=True):
        assert (code, err) == (0, "")
        assert f"python -m broadway.{program}" in out
        assert "--log-dir" in out
    for program, (code, out, err) in zip(PROGRAMS, mistaken, strict=True):
        assert (code, out) == (78, "")
        assert err.startswith(f"python -m broadway.{program}: log.backup: ")
