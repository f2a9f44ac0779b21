import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness import PATIENCE, free_port

from broadway.cli.up import UpOptions, up

API = """
import http.server, os, sys
from pathlib import Path

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()

assert os.environ["BROADWAY_OPERATOR_TOKEN"] not in ("", os.environ["BROADWAY_TOKEN"], *sys.argv)
assert os.environ["BROADWAY_TOKEN"] and os.environ["BROADWAY_TOKEN"] not in " ".join(sys.argv)
told = dict(zip(sys.argv[1::2], sys.argv[2::2]))
http.server.HTTPServer((told["--bind-addr"], int(told["--bind-port"])), Handler).serve_forever()
"""
GRADER = """
import os, signal, sys
from pathlib import Path

services_only = {f"BROADWAY_{name}" for name in ("AMQP_URL", "MONGODB_DSN", "MANAGEMENT_URL", "OPERATOR_TOKEN")}
assert not services_only & os.environ.keys(), "with one of them it would have the rights of a service"
assert "BROADWAY_RUNTIME" not in os.environ, "which may say auto, and is decided by now"
Path(sys.argv[0]).with_suffix(".arguments").write_text(" ".join(sys.argv[1:]))
notes = Path(sys.argv[0]).with_suffix("." + os.environ["BROADWAY_GRADER_ID"])
signal.signal(signal.SIGTERM, lambda *_: (notes.open("a").write("drained\\n"), sys.exit()))
notes.open("a").write(f"started {os.getpid()}\\n")
while True:
    signal.pause()
"""


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if condition():
                return
            await asyncio.sleep(0.02)


@pytest.fixture
async def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UpOptions:
    """Options with a given broker and store; the services are stand-ins."""
    (tmp_path / "api.py").write_text(API)
    (tmp_path / "grader.py").write_text(GRADER)
    monkeypatch.setenv("BROADWAY_AMQP_URL", "amqp://elsewhere/broadway")
    monkeypatch.setenv("BROADWAY_MONGODB_DSN", "mongodb://elsewhere/")
    monkeypatch.setenv("BROADWAY_OPERATOR_TOKEN", "of the person who calls it")
    return UpOptions(
        directory=tmp_path / "up",
        bind_port=free_port(),
        graders=2,
        slots=3,
        json_ready=tmp_path / "ready.json",
        api_command=(sys.executable, str(tmp_path / "api.py")),
        grader_command=(sys.executable, str(tmp_path / "grader.py")),
    )


@pytest.fixture
async def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    async def pong(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK")
        await writer.drain()
        writer.close()

    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    async with await asyncio.start_unix_server(pong, tmp_path / "docker.sock"):
        yield


def notes(options: UpOptions, tmp_path: Path) -> list[list[str]]:
    files = [tmp_path / f"grader.{each}" for each in options.grader_ids]
    return [file.read_text().split() if file.exists() else [] for file in files]


@pytest.mark.usefixtures("engine")
async def test_broadway_up_restarts_dead_processes_and_stops_in_order(
    options: UpOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ready = tmp_path / "ready.json"
    running = asyncio.create_task(up(options))
    await eventually(ready.exists)
    facts = json.loads(ready.read_text())
    assert ready.stat().st_mode & 0o777 == 0o600
    assert facts["api"] == f"http://127.0.0.1:{options.bind_port}"
    assert facts["token"] == (options.directory / "token").read_text()
    assert facts["operator_token"] == (options.directory / "operator-token").read_text() != facts["token"]
    assert facts["graders"] == options.grader_ids

    await eventually(lambda: all(notes(options, tmp_path)))
    os.kill(int(notes(options, tmp_path)[0][1]), signal.SIGKILL)
    await eventually(lambda: notes(options, tmp_path)[0].count("started") == 2)

    assert await up(options) == 1  # a second one, in the same directory

    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 0
    assert [each[-1] for each in notes(options, tmp_path)] == ["drained", "drained"]
    assert not ready.exists()
    output = capsys.readouterr()
    assert f"{options.grader_ids[0]} ended with status -9" in output.err
    assert "another `broadway up` runs in" in output.err
    said = ["they finish or give back their running jobs (unknown)", "Stopping the API.", "Stopped."]
    places = [output.err.find(each) for each in said]
    assert -1 not in places
    assert places == sorted(places)
    assert facts["api"] in output.out
    assert f"{facts['api']}/ui" in output.out
    assert facts["sign_in"] is None  # this API makes no link


async def started(options: UpOptions, tmp_path: Path) -> tuple[dict[str, Any], str]:
    """Start and stop it; return its facts, and the arguments of a grader."""
    running = asyncio.create_task(up(options))
    await eventually(lambda: running.done() or ((tmp_path / "ready.json").exists() and all(notes(options, tmp_path))))
    assert not running.done()
    facts = json.loads((tmp_path / "ready.json").read_text())
    os.kill(os.getpid(), signal.SIGTERM)
    assert await running == 0
    return facts, (tmp_path / "grader.arguments").read_text()


RUNTIMES = {
    "auto": ("oci (starts stages without an engine)", "--runtime oci --images-dir {}/images"),
    "oci": ("oci (starts stages without an engine)", "--runtime oci --images-dir {}/images"),
    "docker": ("docker, as --runtime says", None),
    "runsc": ("runsc, one of the engine's runtimes, as --runtime says", "--runtime runsc"),
}


@pytest.mark.usefixtures("engine")
@pytest.mark.parametrize("wish", RUNTIMES)
async def test_the_graders_get_the_chosen_runtime_and_a_line_says_why(
    options: UpOptions, tmp_path: Path, wish: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROADWAY_RUNTIME", wish)
    facts, arguments = await started(replace(options, runtime=wish), tmp_path)
    line, given = RUNTIMES[wish]
    output = capsys.readouterr()
    assert output.err.splitlines().count(f"runtime: {line}") == 1
    assert facts["runtime"] == line.split(" ")[0].rstrip(",")
    assert f"runtime {facts['runtime']}" in output.out
    assert (given or "--log-dir").format(options.directory) in arguments
    assert ("--runtime" in arguments) is (given is not None)
    assert "--images-source" not in arguments


@pytest.mark.usefixtures("engine")
async def test_a_host_that_cannot_run_oci_gets_docker_with_the_reason(
    options: UpOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROADWAY_OCI_PROGRAM", "no-such-program")
    reason = "there is no no-such-program: the package crun has it"
    facts, arguments = await started(options, tmp_path)
    assert f"runtime: docker, because {reason}\n" in capsys.readouterr().err
    assert facts["runtime"] == "docker"
    assert "--runtime" not in arguments
    assert await up(replace(options, runtime="oci")) == 1
    assert f"broadway up: --runtime oci: {reason}" in capsys.readouterr().err


async def test_without_an_engine_oci_gets_images_from_registries(
    options: UpOptions, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # where no dockerd is
    facts, arguments = await started(options, tmp_path)
    said = capsys.readouterr().err
    assert "install docker.io, iptables. Without one, images come from registries" in said
    assert (facts["runtime"], facts["docker_host"], facts["private_engine"]) == ("oci", None, False)
    assert "--images-source registry" in arguments
    monkeypatch.setenv("BROADWAY_IMAGES_SOURCE", "oci-archive:/images.tar")
    _, arguments = await started(options, tmp_path)
    assert "--images-source" not in arguments
    assert await up(replace(options, runtime="docker")) == 1
    assert "no Docker Engine answers at" in capsys.readouterr().err


@pytest.mark.usefixtures("engine")
async def test_broadway_up_ends_when_a_service_cannot_start(
    options: UpOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = replace(options, api_command=("sh", "-c", "echo cannot work; exit 2"))
    assert await up(broken) == 1
    assert "the API ended with status 2" in (output := capsys.readouterr().err)
    assert "cannot work" in output


@pytest.mark.usefixtures("engine")
async def test_a_taken_port_is_refused(options: UpOptions, capsys: pytest.CaptureFixture[str]) -> None:
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", options.bind_port):
        assert await up(options) == 1
    assert f"port {options.bind_port}" in capsys.readouterr().err
