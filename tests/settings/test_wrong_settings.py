"""Every program is started with each of its settings wrong: it ends with a sentence that names the setting.

The wrong values follow from the settings' own types, so a new setting is tested, too.
"""

import asyncio
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryFile

import annotated_types
import pytest
from _pytest.mark import ParameterSet
from forks import fork_server
from harness import free_port

from broadway.settings.loading import read
from broadway.settings.places import Place
from broadway.settings.programs import PROGRAMS
from broadway.settings.setting_names import Leaf, leaves

CANARY = "canary-7f3a"
NEEDED: Mapping[str, list[str]] = {"grader": ["cluster-token", "host1"]}
# Settings without a wrong value of their own.
FREE: Mapping[str, str] = {}
NAMED_BY = {"tls_cert": "--tls-key"}  # the flag that the error names, where two settings do not fit each other
TOKENS = (f"{CANARY}\r", f"{CANARY} {CANARY}", f"{CANARY}\u65e5")
OWN: Mapping[str, tuple[str, ...]] = {
    "token": TOKENS,
    "operator_token": TOKENS,
    "metrics_token": ("2short", *TOKENS),
    "original_graders": ("pool,p!ol",),
    "trusted_proxies": ("192.0.2.7,proxy1",),
    "callback.allow": ("10.0.0.0/8,campus", "10.1.2.3/8"),
    "callback.ports": ("", "443,", "443,https", "0", "65536"),
    "oidc.issuer": ("login.example.edu", "http://login.example.edu", "https://login.example.edu/?x"),
    "oidc.client_id": ("x" * 5000,),
    "oidc.client_secret": (CANARY * 500,),
    "oidc.url": ("grading", "http://grading.example.edu"),
    "oidc.scope": ("profile email",),
    "oidc.operators": ("ana,=x", "role="),
    "oidc.staff": ("ana", "cs101:", "c s:ana"),
    "oidc.algorithms": ("none", "RS256,HS256"),
    "api_host": (
        "",
        "host:1470",
        "ftp://host",
        "http://",
        "http://[::1",
        "http://host:99999",
        f"http://u:{CANARY}@h h",
    ),
}
PORT = ["--bind-port", "0"]


def is_place(leaf: Leaf) -> bool:
    return any(isinstance(each, Place) for each in leaf.field.metadata)


def wrong(leaf: Leaf, directory: Path) -> Iterator[str]:
    """Yield wrong values of a setting."""
    file = directory / "file"
    file.write_text("{")
    if leaf.key in OWN:
        yield from OWN[leaf.key]
    elif leaf.type in ("int", "float"):
        yield from ("x", "nan", *_out_of_bounds(leaf))
    elif leaf.type == "bool":
        yield "perhaps"
    elif leaf.is_secret:
        yield from (
            f"amqp://u:{CANARY}@host:99999/",
            f"mongodb://u:{CANARY}/x@host/",
            f"{CANARY}\r",
            f"{CANARY} {CANARY}",
        )
    elif Place.HOST in leaf.field.metadata:
        yield from ("192.0.2.1", "2001:db8::1")
    elif leaf.type == "path" or is_place(leaf):
        yield str(file / "below-a-file")
    else:
        yield from _unfitting(leaf)


def _out_of_bounds(leaf: Leaf) -> Iterator[str]:
    for bound in leaf.field.metadata:
        match bound:
            case annotated_types.Ge(ge):
                yield str(ge - 1)  # type: ignore[operator]
            case annotated_types.Gt(gt):
                yield str(gt)
            case annotated_types.Le(le):
                yield str(le + 1)  # type: ignore[operator]
            case annotated_types.Lt(lt):
                yield str(lt)


def _unfitting(leaf: Leaf) -> Iterator[str]:
    text = str(leaf.field)
    if "pattern=" in text:
        yield "a!b c"
    elif "MinLen" in text:
        yield ""


def arguments_for(program: str, leaf: Leaf, value: str) -> list[str]:
    """Return a command line with a wrong value, and with all that its program needs."""
    if leaf.positional:
        return [value, "host1"] if leaf.key == "token" else ["cluster-token", value]
    others = {
        "metrics_addr": ["--metrics-port", str(free_port())],
        "bind_addr": PORT,
        "images.password_file": ["--images-registry=r.example.org", "--images-username=u"],
    }
    return [*NEEDED.get(program, []), *others.get(leaf.key, []), f"{leaf.flag}={value}"]


def refusal(program: str, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[int, str]:
    """Return the exit code with which the loader ends a program, and its words; 0 if it takes the settings."""
    try:
        read(PROGRAMS[program], prog=program, arguments=arguments)
    except SystemExit as ended:
        return int(str(ended.code)), capsys.readouterr().err
    return 0, capsys.readouterr().err


def values() -> Iterator[ParameterSet]:
    """Yield each setting of each program; one that programs share is tested in one of them, and the rest is long."""
    seen: set[tuple[str, str]] = set()
    for program, kind in PROGRAMS.items():
        for leaf in (each for each in leaves(kind) if not is_place(each)):
            same = (leaf.key, str(leaf.field))
            yield pytest.param(program, leaf, marks=[pytest.mark.long] if same in seen else [])
            seen.add(same)


PLACES = [(program, leaf) for program, kind in PROGRAMS.items() for leaf in leaves(kind) if is_place(leaf)]


def named(case: object) -> str:
    return case.key if isinstance(case, Leaf) else str(case)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("BROADWAY_")]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(("program", "leaf"), list(values()), ids=named)
def test_a_wrong_value_is_refused_by_its_name(
    program: str, leaf: Leaf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    values = list(wrong(leaf, tmp_path))
    assert values or leaf.key in FREE, "give this setting a wrong value"
    reported = NAMED_BY.get(leaf.key, leaf.flag)
    for value in values:
        code, words = refusal(program, capsys, arguments_for(program, leaf, value))
        assert (code, reported in words, CANARY in words) == (2, True, False), f"{value!r}: {words}"
    if reported == leaf.flag and values:
        if leaf.positional:
            monkeypatch.setenv({"token": "BROADWAY_GRADER_ID", "id": "BROADWAY_TOKEN"}[leaf.key], "other")
        monkeypatch.setenv(leaf.variable, values[-1])
        code, words = refusal(program, capsys, [] if leaf.positional else NEEDED.get(program, []))
        assert (code, leaf.variable in words, CANARY in words) == (78, True, False), words


@pytest.mark.parametrize(("program", "leaf"), PLACES, ids=named)
async def test_a_program_does_not_start_where_a_place_is_unusable(program: str, leaf: Leaf, tmp_path: Path) -> None:
    for value in wrong(leaf, tmp_path):
        code, words = await start(program, arguments_for(program, leaf, value), tmp_path)
        assert (code, "Traceback" in words) == (78, False), words
        assert f"{leaf.flag} " in words
        assert value in words


async def start(program: str, arguments: list[str], directory: Path) -> tuple[int, str]:
    """Run a program to its end; return the exit code and all its output."""
    with TemporaryFile() as output:
        process = await fork_server().start(
            ("-m", f"broadway.{program}", *arguments),
            environment=os.environ,
            directory=directory,
            stdout=output,
            stderr=output,
        )
        code = await process.wait()
        output.seek(0)
        return code, output.read().decode()


async def test_a_port_that_is_taken_may_be_free_later(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        code, output = await start("ingest", ["--bind-addr", "127.0.0.1", "--bind-port", str(port)], tmp_path)

    assert code == 1, "systemd tries again"
    assert f"--bind-addr 127.0.0.1, --bind-port {port}: cannot listen: the port is taken" in output
