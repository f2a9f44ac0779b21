"""Settings: flags override the environment, the config file and defaults; each mistake is reported in one line."""

import asyncio
import json
import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from harness import module

from broadway.settings.grader import GraderSettings
from broadway.settings.loading import load
from broadway.settings.loading import read as read_all
from broadway.settings.programs import (
    ApiSettings,
    DispatcherSettings,
    IngestSettings,
    ResultsSettings,
    ServiceSettings,
)
from broadway.settings.setting_names import Leaf, leaves

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


def refusal(capsys: pytest.CaptureFixture[str], program: str, *arguments: str, code: int) -> list[str]:
    """Return the error lines; if the command line is wrong, check and remove the usage line before them."""
    with pytest.raises(SystemExit) as ended:
        read(program, *arguments)
    assert ended.value.code == code
    lines = capsys.readouterr().err.splitlines()
    if code == 2:
        usage = lines.pop(0)
        assert usage.startswith(f"usage: {program} ")
    assert all(line.startswith(f"{program}: error: ") for line in lines)
    return lines


Written = Callable[[object], str]


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Return a function that writes a config file: a text unchanged, any other value as JSON."""

    def write(content: object) -> str:
        path = tmp_path / "conf.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return str(path)

    return write


def origins(program: str, *arguments: str) -> dict[str, str]:
    kind, needed = PROGRAMS[program]
    loaded = read_all(kind, prog=program, arguments=[*needed, *arguments])
    return {leaf.key: loaded.origin(leaf) for leaf in leaves(kind)}


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


def test_privileges_of_some_courses_need_privileges(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = refusal(capsys, "ingest", "--privileged-courses", "cs241", code=2)
    assert line.endswith("--privileged-courses: only together with allow_privileged, which it narrows")
    both = read("ingest", "--allow-privileged", "--privileged-courses", "cs241")
    assert (both.allow_privileged, both.privileged_courses) == (True, "cs241")


def test_a_secret_that_is_too_short_has_a_length_and_no_entries(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = refusal(capsys, "api", "--metrics-token", "short", code=2)
    assert line.endswith("--metrics-token: should have a length of 8 or more, not 5")


SECTIONS = {
    ("api", "--oidc-issuer", "https://login.example.edu"): (
        "--oidc-issuer: issuer needs client_id and url: set --oidc-client-id and --oidc-url, too"
    ),
    ("grader", "--images-registry", "registry.example.org"): (
        "--images-registry: registry, username and password_file belong together: set all three, or use auth_file"
    ),
}


@pytest.mark.parametrize(("arguments", "said"), SECTIONS.items(), ids=[each[0] for each in SECTIONS])
def test_settings_of_a_section_that_do_not_fit_together_are_a_mistake_of_the_first(
    arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    program, *given = arguments
    (line,) = refusal(capsys, program, *given, code=2)
    assert line.endswith(said)


@pytest.mark.parametrize(
    "arguments", [["--max-job-seconds", "14000"], ["--consumer-timeout", "11700"], ["--consumer-timeout=11000"]]
)
def test_the_longest_job_must_fit_the_brokers_limit(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as raised:
        read("api", *arguments)
    assert raised.value.code == 2
    assert "--consumer-timeout: should be above max_job_seconds and 900 s" in capsys.readouterr().err

    assert read("api", "--max-job-seconds", "14000", "--consumer-timeout", "14901")


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
def test_flags_override_the_environment_and_that_overrides_the_config_file(
    monkeypatch: pytest.MonkeyPatch, written: Written, flag: str, variable: str, path: str, one: object, two: object
) -> None:
    *section, name = path.split(".")
    config = written({section[0]: {name: two}} if section else {name: two})
    default = value_at(read("api"), path)
    assert value_at(read("api", config), path) == two != default

    monkeypatch.setenv(variable, str(one))
    assert value_at(read("api", config), path) == one != default
    assert value_at(read("api"), path) == one

    assert value_at(read("api", flag, str(two), config), path) == two
    assert value_at(read("api", f"{flag}={two}"), path) == two


def test_the_order_holds_for_each_value_separately(monkeypatch: pytest.MonkeyPatch, written: Written) -> None:
    config = written({"mongodb": {"dsn": "mongodb://one", "logs": "L0", "primary": "P0"}})
    monkeypatch.setenv("BROADWAY_MONGODB_LOGS", "L1")
    monkeypatch.setenv("BROADWAY_MONGODB_PRIMARY", "P1")
    mongodb = read("api", "--mongodb-primary", "P2", config).mongodb

    assert (mongodb.dsn, mongodb.logs, mongodb.primary, mongodb.timeout) == ("mongodb://one", "L1", "P2", 5)


def test_every_value_has_its_origin(monkeypatch: pytest.MonkeyPatch, written: Written) -> None:
    config = written({"mongodb": {"dsn": "mongodb://one", "logs": "L0"}, "debug": True})
    monkeypatch.setenv("BROADWAY_MONGODB_LOGS", "L1")
    found = origins("api", "-d", "--bind-addr=::", config)

    assert found.pop("mongodb.dsn") == f"file {config}: mongodb.dsn"
    assert found.pop("mongodb.logs") == "environment BROADWAY_MONGODB_LOGS"
    assert found.pop("bind_addr") == "command line --bind-addr"
    assert found.pop("debug") == "command line --debug"
    assert set(found.values()) == {"default"}


def test_a_graders_values_have_their_origins(written: Written) -> None:
    config = written({"id": "unused", "pool": "p"})
    found = origins("grader", config)

    assert (found["token"], found["id"]) == ("command line TOKEN", "command line GRADER_ID")
    assert found["pool"] == f"file {config}: pool"


TRUE, FALSE = ("t", "true", "y", "yes", "1", "TRUE", "Yes"), ("f", "false", "n", "no", "0", "FALSE", "No")
EACH_WORD = pytest.mark.parametrize(("word", "value"), [*((w, True) for w in TRUE), *((w, False) for w in FALSE)])


@EACH_WORD
def test_booleans_are_parsed_from_words(
    monkeypatch: pytest.MonkeyPatch, written: Written, word: str, *, value: bool
) -> None:
    in_file = read("api", written({"debug": word, "log": {"timestamps": word}}))
    on_command_line = read("api", "-d", word, f"--log-timestamps={word}")
    cut = read("api", "--deb", word, "--log-t", word)
    monkeypatch.setenv("BROADWAY_DEBUG", word)
    monkeypatch.setenv("BROADWAY_LOG_TIMESTAMPS", word)

    for settings in (read("api"), on_command_line, cut, in_file):
        assert (settings.debug, settings.log.timestamps) == (value, value)


def test_a_boolean_flag_alone_means_true_and_its_negation_false() -> None:
    settings = read("api", "--debug", "--no-log-timestamps", "--allow-privileged")

    assert (settings.debug, settings.log.timestamps, settings.allow_privileged) == (True, False, True)


@pytest.mark.parametrize("flag", ["-d", "--debug", "--deb"])
def test_a_boolean_flag_does_not_consume_the_config_file_after_it(written: Written, flag: str) -> None:
    config = written({"bind_port": 7})
    settings = read("api", flag, config)

    assert (settings.debug, settings.bind_port) == (True, 7)


def test_a_boolean_flag_does_not_consume_a_graders_names() -> None:
    settings = load(GraderSettings, prog="grader", arguments=["-v", "t1", "-d", "g1"])

    assert (settings.verbose, settings.debug, settings.grader_id) == (True, True, "g1")


def test_long_flags_may_be_abbreviated() -> None:
    settings = read("api", "--heartbeat", "5", "--mongodb-t=7", "--no-log-t")

    assert (settings.heartbeat_interval, settings.mongodb.timeout, settings.log.timestamps) == (5, 7, False)


def test_the_error_for_an_ambiguous_flag_lists_its_matches(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = refusal(capsys, "api", "--bind", "5", code=2)

    assert line.endswith("ambiguous option: --bind could match --bind-addr, --bind-port")


def test_a_config_file_may_write_numbers_as_text(written: Written) -> None:
    settings = read("api", written({"bind_port": "7", "retry_backoff": "0.5", "log": {"backup": "3"}}))

    assert (settings.bind_port, settings.retry_backoff, settings.log.backup) == (7, 0.5, 3)


@pytest.mark.parametrize("empty", [{}, {"log": {}}])
def test_an_empty_config_file_changes_nothing(written: Written, empty: object) -> None:
    assert read("api", written(empty)) == read("api")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "expected JSON"),
        ('{"bind_port": 1', "expected JSON"),
        ("[" * 100_000, "expected JSON"),
        ([], "expected an object"),
        (None, "expected an object"),
        ({"log": "logs"}, "log: expected an object"),
        ({"mongodb": None}, "mongodb: expected an object"),
        ({"logs": {"dir": "x"}}, "logs: no such setting"),
        ({"log.dir": "x"}, "log.dir: no such setting"),
        ({"log": {"folder": "x"}}, "log.folder: no such setting; there are dir, "),
        ({"grader_id": "x"}, "grader_id: no such setting"),
        ({"bind_port": "http"}, "bind_port: "),
        ({"bind_port": True}, "bind_port: expected int"),
        ({"bind_port": None}, "bind_port: "),
        ({"bind_addr": 7}, "bind_addr: "),
        ({"bind_addr": ["x"]}, "bind_addr: "),
        ({"debug": "perhaps"}, "debug: expected true, "),
        ({"log": {"level": "LOUD"}}, "log.level: "),
        ('{"ready_share": NaN}', "ready_share: "),
    ],
)
def test_the_error_names_the_config_file_and_the_wrong_key(
    capsys: pytest.CaptureFixture[str], written: Written, content: object, named: str
) -> None:
    config = written(content)
    (line,) = refusal(capsys, "api", config, code=78)

    assert f"{config}: {named}" in line


@pytest.mark.parametrize("name", ["missing.json", "missing", "."])
def test_the_error_names_an_unreadable_config_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str
) -> None:
    (line,) = refusal(capsys, "api", str(tmp_path / name), code=78)

    assert str(tmp_path / name) in line


def test_a_graders_names_may_come_from_the_environment_or_the_config_file(
    monkeypatch: pytest.MonkeyPatch, written: Written
) -> None:
    config = written({"token": "t0", "id": "g0"})
    for arguments, expected in (
        ([config], ("t0", "g0")),
        (["t2", config], ("t2", "g0")),
        (["t2", "g2", config], ("t2", "g2")),
        (["t2", "--slots", "2", "g2", "-v", config], ("t2", "g2")),
    ):
        settings = load(GraderSettings, prog="grader", arguments=arguments)
        assert (settings.token.get_secret_value(), settings.grader_id) == expected

    monkeypatch.setenv("BROADWAY_TOKEN", "t1")
    monkeypatch.setenv("BROADWAY_GRADER_ID", "g1")
    for arguments, expected in (
        ([], ("t1", "g1")),
        ([config], ("t1", "g1")),
        (["t2"], ("t2", "g1")),
        (["t2", "g2"], ("t2", "g2")),
        (["--", "-t2", "g2"], ("-t2", "g2")),
    ):
        settings = load(GraderSettings, prog="grader", arguments=arguments)
        assert (settings.token.get_secret_value(), settings.grader_id) == expected


def test_the_last_of_three_arguments_is_the_config_file(tmp_path: Path) -> None:
    config = tmp_path / "settings"
    config.write_text('{"pool": "p"}')

    assert load(GraderSettings, prog="grader", arguments=["t", "g", str(config)]).pool == "p"


def test_a_fourth_argument_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["conf.json", "extra"], ["--", "conf.json", "extra"]):
        (line,) = refusal(capsys, "grader", *arguments, code=2)
        assert line.endswith("unrecognized arguments: extra")


def test_the_errors_name_a_graders_missing_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        load(GraderSettings, prog="grader", arguments=[])

    assert ended.value.code == 2
    usage, *lines = capsys.readouterr().err.splitlines()
    assert usage.endswith("[TOKEN] [GRADER_ID] [CONFIG]")
    assert [line.split(": ")[2].split()[0] for line in lines] == ["TOKEN", "GRADER_ID"]


@pytest.mark.parametrize("address", ["http://a:1470", "https://a", "ws://a:1470/", "wss://a/"])
def test_a_grader_accepts_addresses_of_both_protocols(address: str) -> None:
    assert read("grader", "--api-host", address).api_host == address.rstrip("/")


def test_the_api_offers_the_brokers_address_unless_configured_otherwise() -> None:
    assert (read("ingest").offer_amqp, read("ingest", "--no-offer-amqp").offer_amqp) == (True, False)
    assert read("ingest").gateway_pool == "default"


@pytest.mark.parametrize(
    ("program", "flag", "value"),
    [
        ("api", "--bind-port", "http"),
        ("api", "--bind-port", "65536"),
        ("api", "--max-body-size", "0"),
        ("api", "--max-job-seconds", "-1"),
        ("api", "--gateway-pool", "a b"),
        ("api", "--original-graders", "lab,a b"),
        ("api", "--operator-token", ""),
        ("results", "--log-level", "LOUD"),
        ("results", "--log-rotate", "never"),
        ("results", "--log-backup", "-1"),
        ("results", "--mongodb-timeout", "soon"),
        ("results", "--max-attempts", "0"),
        ("results", "--retry-backoff", "inf"),
        ("dispatcher", "--ready-share", "1.5"),
        ("dispatcher", "--interactive-share", "1"),
        ("dispatcher", "--reconcile-interval", "nan"),
        ("grader", "--slots", "0"),
        ("grader", "--pool", "a b"),
        ("grader", "--api-host", "ftp://localhost"),
        ("grader", "--api-host", "localhost:1470"),
        ("grader", "--amqp-url", "http://host"),
        ("dispatcher", "--amqp-url", "host:5672"),
        ("api", "--grader-amqp-url", "amqp://"),
        ("api", "--management-url", "amqp://host"),
        ("api", "--management-url", "http://host:port"),
        ("grader", "--output-limit", "1"),
        ("grader", "--wat", "1"),
        ("grader", "--slots", "--verbose"),
    ],
)
def test_the_error_names_a_wrong_flag(capsys: pytest.CaptureFixture[str], program: str, flag: str, value: str) -> None:
    (line,) = refusal(capsys, program, flag, value, code=2)

    assert flag in line


def test_the_operators_token_is_another_one_than_the_cluster_token(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = refusal(capsys, "api", "--token", SECRET, "--operator-token", SECRET, code=2)

    assert "--operator-token: should differ from token" in line
    assert SECRET not in line


def test_the_error_for_an_unknown_scheme_lists_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    (line,) = refusal(capsys, "grader", "--api-host", "ftp://x", code=2)

    assert line.endswith("--api-host: should be an address, as in http://host:port (or https, ws, wss)")


@pytest.mark.parametrize("word", ["--debug=perhaps", "-dperhaps", "--deb=perhaps"])
def test_a_boolean_flag_accepts_no_other_words(capsys: pytest.CaptureFixture[str], word: str) -> None:
    (line,) = refusal(capsys, "api", word, code=2)

    assert "--debug: expected true, " in line


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("BROADWAY_MONGODB_TIMEOUT", "soon"),
        ("BROADWAY_HEARTBEAT_INTERVAL", "0"),
        ("BROADWAY_DEBUG", "perhaps"),
        ("BROADWAY_DEBUG", ""),
        ("BROADWAY_LOG_FOLDER", "x"),
        ("BROADWAY_MONGODB", "mongodb://x"),
        ("BROADWAY_LOG", "{}"),
    ],
)
def test_the_error_names_a_wrong_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    (line,) = refusal(capsys, "api", code=78)

    assert f"{variable}: " in line


def test_each_mistake_is_reported_in_its_own_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BROADWAY_RETRY_BACKOFF", "x")
    lines = refusal(capsys, "api", "--bind-port", "x", "--max-attempts", "0", "--log-level", "LOUD", code=2)

    assert len(lines) == 4


def test_a_wrong_value_that_is_overridden_is_not_reported(monkeypatch: pytest.MonkeyPatch, written: Written) -> None:
    monkeypatch.setenv("BROADWAY_BIND_PORT", "x")

    assert read("api", "--bind-port", "7", written({"bind_port": "y"})).bind_port == 7


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

    assert SECRET not in str(refusal(capsys, program, *arguments, "--log-backup", "x", code=2))
    with pytest.raises(SystemExit):
        read(program, *arguments, "--help")
    assert SECRET not in capsys.readouterr().out


SECRETS = [
    (program, leaf)
    for program, (kind, _) in PROGRAMS.items()
    for leaf in leaves(kind)
    if leaf.is_secret and not leaf.positional
]


def test_settings_that_may_hold_a_secret_are_secret() -> None:
    found = {leaf.key for kind, _ in PROGRAMS.values() for leaf in leaves(kind) if leaf.is_secret}

    assert found >= {"token", "amqp_url", "grader_amqp_url", "management_url", "mongodb.dsn"}


@pytest.mark.parametrize(("program", "leaf"), SECRETS, ids=lambda each: getattr(each, "key", each))
def test_every_secret_may_be_in_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, written: Written, program: str, leaf: Leaf
) -> None:
    file = tmp_path / "secret"
    scheme = {"management_url": "http", "mongodb.dsn": "mongodb", "trace.endpoint": "http"}.get(leaf.key, "amqp")
    secret = SECRET if leaf.key == "token" else f"{scheme}://user:{SECRET}@host/"
    file.write_text(f"{secret}\n")
    monkeypatch.setenv(f"{leaf.variable}_FILE", str(file))
    kind, needed = PROGRAMS[program]
    loaded = read_all(kind, prog=program, arguments=[*needed, written({})])

    assert value_at(loaded.settings, ".".join(leaf.path)) == secret
    assert loaded.origin(leaf) == f"environment {leaf.variable}_FILE"


def test_a_graders_token_may_be_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    monkeypatch.setenv("BROADWAY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("BROADWAY_GRADER_ID", "host1")

    assert load(GraderSettings, prog="grader", arguments=[]).token.get_secret_value() == SECRET


def test_a_flag_overrides_a_file_with_a_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from the file")
    monkeypatch.setenv("BROADWAY_TOKEN_FILE", str(tmp_path / "token"))

    assert value_at(read("api", "--token", SECRET), "token") == SECRET


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "No such file or directory"), (b"", "empty"), (b"\n", "empty"), (b"\xff", "line 1: the byte 0xFF")],
)
def test_the_error_names_a_secret_that_cannot_be_read_from_its_file(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    content: bytes | None,
    says: str,
) -> None:
    file = tmp_path / "secret"
    if content is not None:
        file.write_bytes(content)
    monkeypatch.setenv("BROADWAY_MONGODB_DSN_FILE", str(file))
    (line,) = refusal(capsys, "results", code=78)

    assert f"BROADWAY_MONGODB_DSN_FILE: {file}: " in line
    assert says in line


def test_a_secret_given_twice_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "token").write_text(SECRET)
    monkeypatch.setenv("BROADWAY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("BROADWAY_TOKEN", "another")
    (line,) = refusal(capsys, "api", code=78)

    assert "BROADWAY_TOKEN_FILE: BROADWAY_TOKEN is given, too" in line
    assert SECRET not in line


def test_a_setting_that_is_not_secret_has_no_file(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("BROADWAY_LOG_LEVEL_FILE", "level")
    (line,) = refusal(capsys, "api", code=78)

    assert "BROADWAY_LOG_LEVEL_FILE: no such setting" in line


def test_a_graders_token_is_not_shown() -> None:
    assert SECRET not in repr(load(GraderSettings, prog="grader", arguments=[SECRET, "g1"]))


def test_services_derive_their_lease_and_retry_policy() -> None:
    settings = read("results", "--heartbeat-interval", "4", "--max-attempts", "5", "--retry-backoff", "0.5")

    assert settings.lease == timedelta(seconds=12)
    assert settings.retry_policy.max_attempts == 5
    assert settings.retry_policy.backoff == timedelta(seconds=0.5)


async def test_every_program_prints_its_help_and_its_mistakes() -> None:
    helped, mistaken = await asyncio.gather(
        asyncio.gather(*(module(f"broadway.{name}", "--help") for name in PROGRAMS)),
        asyncio.gather(
            *(module(f"broadway.{name}", *needed, "--log-backup", "x") for name, (_, needed) in PROGRAMS.items())
        ),
    )

    for program, help_ in zip(PROGRAMS, helped, strict=True):
        assert (help_.exit_code, help_.stderr) == (0, "")
        assert f"python -m broadway.{program}" in help_.stdout
        assert "--log-dir" in help_.stdout
    for program, mistake in zip(PROGRAMS, mistaken, strict=True):
        assert (mistake.exit_code, mistake.stdout) == (2, "")
        usage, line = mistake.stderr.splitlines()
        assert usage.startswith(f"usage: python -m broadway.{program} ")
        assert line.startswith(f"python -m broadway.{program}: error: --log-backup: ")
