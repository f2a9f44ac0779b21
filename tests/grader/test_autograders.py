"""Autograders of other systems, unmodified: built from their zips, and run with each runtime."""

import importlib.util
import json
import os
import subprocess
import zipfile
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from secrets import token_hex
from typing import Any

import docker
import pytest
from harness import Command, broadway
from images import AUTOGRADER, autograder

from broadway.domain.job import FaultPhase, Outcome
from broadway.domain.originals import Reported
from broadway.grader.docker.containers import DockerContainers
from broadway.grader.grading.directories import Directories
from broadway.grader.grading.grade import Graded, grade
from broadway.grader.oci.containers import OciContainers
from broadway.grader.ports import Labels, Limits

HERE = Path(__file__).parent / "autograders"
SECRET = "user:hunter2"  # of an index of packages
ENV = {"BROADWAY_STUDENT": "ada", "BROADWAY_ASSIGNMENT": "hw1", "BROADWAY_COURSE": "cs101"}

SHAPES = """
def prepare(): pass
def square(side): return side * side if side > 0 else 0
def cube(side): return 0
"""
BROKEN = "def prepare(): raise OSError('no room')"
SUM = """
#include <stdio.h>
#include <stdlib.h>
int main(int argc, char **argv) { printf("%d\\n", atoi(argv[1]) + abs(atoi(argv[2]))); }
"""
MISSPELT = "int main( { }"

Build = Callable[[str], Awaitable[str]]
Run = Callable[..., Any]


@pytest.fixture
def limits() -> Limits:
    return Limits()


@pytest.fixture(scope="module")
def base(api: docker.APIClient, tmp_path_factory: pytest.TempPathFactory) -> str:
    archive = tmp_path_factory.mktemp("base") / "root.tar"
    autograder(archive)
    repository, _, tag = AUTOGRADER.partition(":")
    with archive.open("rb") as content:
        api.import_image_from_data(content, repository=repository, tag=tag)
    return AUTOGRADER


def files_of(name: str) -> Iterator[tuple[str, bytes]]:
    """Yield the files of an autograder; the one in Python brings the package that it needs."""
    for path in sorted((HERE / name).rglob("*")):
        if path.is_file():
            yield str(path.relative_to(HERE / name)), path.read_bytes()
    found = importlib.util.find_spec("gradescope_utils")
    assert found
    assert found.origin
    package = Path(found.origin).parent
    for path in package.rglob("*.py") if name == "python" else ():
        yield f"vendor/{path.relative_to(package.parent)}", path.read_bytes()


def zipped(archive: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    """Write a zip as people do: the folder and not its content, with Windows' line ends, and without x bits."""
    with zipfile.ZipFile(archive, "w") as opened:
        for name, content in files:
            is_script = name in ("setup.sh", "run_autograder")
            entry = zipfile.ZipInfo(f"my autograder/{name}")
            entry.external_attr = 0o100644 << 16
            opened.writestr(entry, content.replace(b"\n", b"\r\n") if is_script else content)
        opened.writestr("__MACOSX/my autograder/._setup.sh", b"litter")
    return archive


@pytest.fixture(scope="module")
def settings(docker_host: str, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment of a member of staff, whose machine has settings of its own for packages and docker."""
    home = tmp_path_factory.mktemp("home")
    (home / ".docker").mkdir()
    proxies = {"default": {"httpProxy": f"http://{SECRET}@127.0.0.1:9"}}
    (home / ".docker" / "config.json").write_text(json.dumps({"proxies": proxies}))
    (home / "pip.conf").write_text(f"[global]\nextra-index-url = https://{SECRET}@127.0.0.1/more\n")
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "DOCKER_HOST": docker_host,
        "DOCKER_BUILDKIT": "0",
        "PIP_INDEX_URL": f"https://{SECRET}@127.0.0.1/simple",
        "PIP_CONFIG_FILE": str(home / "pip.conf"),
    }


@pytest.fixture(scope="module")
def build(base: str, settings: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Build:
    """A function that builds an autograder's image with the command, once."""
    built: dict[str, str] = {}

    async def build(name: str) -> str:
        if name not in built:
            archive = zipped(tmp_path_factory.mktemp("zips") / "autograder.zip", files_of(name))
            tag = f"broadway-test-{name}:1"
            done = await command(archive, "--base", base, "--tag", tag, environment=settings)
            assert done.exit_code == 0, done.stderr
            assert "my autograder/, which was left out" in done.stderr
            built[name] = tag
        return built[name]

    return build


async def command(archive: Path, *options: str, environment: Mapping[str, str]) -> Command:
    words = ("assignment", "build-gradescope", str(archive), *options, "--network", "none")
    return await broadway(*words, **{**environment, "COLUMNS": "300"})


@pytest.fixture
def run(containers: DockerContainers | OciContainers, tmp_path: Path) -> Run:
    directories = Directories(tmp_path / "jobs")

    async def run(image: str, submission: Mapping[str, str], **stage: Any) -> Graded:
        async def prepare(job: Path) -> None:
            for path, content in submission.items():
                file = job / "submission" / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(content)

        name = token_hex(6)
        posted = {"image": image, "kind": "gradescope", "env": ENV, "timeout": 60, **stage}
        return await grade(
            [posted],
            containers=containers,
            directories=directories,
            labels=Labels("g", "l", "j", name, 0),
            preparation=prepare,
        )

    return run


def reported(graded: Graded) -> Reported:
    found = json.loads(json.dumps(graded.results[-1].entry()))
    assert "report" in found, (graded.reason, graded.stdout)
    return Reported.model_validate(found["report"])


async def test_an_autograder_on_gradescope_utils(build: Build, run: Run) -> None:
    graded = await run(await build("python"), {"shapes.py": SHAPES})

    assert (graded.outcome, graded.reason) == (Outcome.SUCCEEDED, ""), graded.stdout
    report = reported(graded).report
    assert report
    tests = {test.name.body: test for test in report.tests}
    assert [(name, test.number) for name, test in tests.items()] == [
        ("Area of a square", "1.2"),
        ("A secret square", "1.10"),
        ("Area of a circle", "2"),
        ("Volume of a cube", "3"),
    ]
    points = {name: (str(test.status), str(test.score), str(test.max)) for name, test in tests.items()}
    assert points == {
        "Area of a square": ("passed", "2", "2"),
        "A secret square": ("failed", "0", "3"),
        "Area of a circle": ("partial", "4.2", "10"),
        "Volume of a cube": ("failed", "0", "1"),
    }, "a skipped test is not in the file, and one of a board is only there"
    assert {name: str(test.visibility) for name, test in tests.items() if test.visibility} == {
        "A secret square": "hidden",
        "Volume of a cube": "after_due",
    }
    cube = tests["Volume of a cube"].output
    assert cube
    assert cube.body.strip() == "Not today"
    assert tests["Area of a square"].tags == ["areas"]
    assert [(board.name, str(board.value), board.order) for board in report.boards] == [("runtime", "1.5", "asc")]
    assert (str(report.score), str(report.max), str(report.log_visibility)) == ("6.2", "16", "hidden")
    assert "graded by 0 in /autograder" in graded.stdout


async def test_an_image_without_an_autograder_is_an_error_of_the_autograder(base: str, run: Run) -> None:
    graded = await run(base, {})

    assert (graded.outcome, graded.fault_phase) == (Outcome.INFRASTRUCTURE_ERROR, FaultPhase.START)
    assert "/autograder/run_autograder" in graded.reason
    assert not graded.retryable


async def test_an_error_in_a_class_of_tests_is_an_error_of_the_autograder(build: Build, run: Run) -> None:
    graded = await run(await build("python"), {"shapes.py": BROKEN})

    assert (graded.outcome, graded.fault_phase) == (Outcome.INFRASTRUCTURE_ERROR, FaultPhase.COLLECT)
    assert not graded.retryable
    assert "no room" in graded.stdout
    (kept,) = reported(graded).files
    assert (kept.path, kept.size) == ("results/results.json", 0)


@pytest.mark.parametrize(("source", "score"), [(SUM, "3"), (MISSPELT, "0")], ids=["right", "does not compile"])
async def test_an_autograder_in_c(build: Build, run: Run, source: str, score: str) -> None:
    graded = await run(await build("c"), {"src/sum.c": source})

    assert graded.outcome is Outcome.SUCCEEDED, graded.stdout
    report = reported(graded).report
    assert report
    assert str(report.score) == score
    assert [test.name.body for test in report.tests] == (["1 2", "20 22", "-1 1"] if score == "3" else [])


async def test_a_grader_of_prairielearn(api: docker.APIClient, base: str, run: Run) -> None:
    image = question(api, base)
    stage = {"kind": "prairielearn", "entrypoint": ["/grade/run.sh"]}

    graded = await run(image, {"answer.py": "def double(x): return x * x"}, **stage)
    assert graded.outcome is Outcome.SUCCEEDED, graded.stdout
    report = reported(graded).report
    assert report
    assert (str(report.max), [str(test.score) for test in report.tests]) == ("6", ["0", "2", "2"])
    assert report.score == 4

    graded = await run(image, {"answer.py": "def double(x:"}, **stage)
    report = reported(graded).report
    assert report
    assert (report.gradable, report.score) == (False, None)
    assert [message.body for message in report.messages] == ["Your code has a syntax error."]


def question(api: docker.APIClient, base: str) -> str:
    """Return an image with a question's grader, as a course makes it."""
    container = api.create_container(base, ["true"])["Id"]
    try:
        api.put_archive(container, "/", packed(HERE / "prairielearn"))
        api.commit(container, repository="broadway-test-question", tag="1")
    finally:
        api.remove_container(container)
    return "broadway-test-question:1"


def packed(directory: Path) -> bytes:
    words = ["tar", "c", "--transform", "s,^.,grade,", "--mode", "0755", "-C", str(directory), "."]
    return subprocess.run(words, capture_output=True, check=True).stdout


async def test_the_build_uses_the_hosts_settings_and_keeps_none(build: Build, api: docker.APIClient, base: str) -> None:
    image = await build("python")

    container = api.create_container(image, ["-c", "cat /autograder/setup.txt"], entrypoint=["/bin/sh"])["Id"]
    try:
        content = b"".join(api.export(container))
        described = json.dumps([api.inspect_image(image), api.history(image)])
    finally:
        api.remove_container(container)
    assert content.count(SECRET.encode()) == SETUP_WROTE, "only what setup.sh itself wrote"
    assert b"cwd /\n" in content
    assert SECRET not in described
    config, of_base = (api.inspect_image(each)["Config"] for each in (image, base))
    assert config["Entrypoint"] == ["/autograder/run_autograder"]
    assert config["WorkingDir"] == "/autograder"
    assert [each for each in config["Env"] if not each.startswith("PATH=")] == (of_base["Env"] or [])
    assert api.containers(all=True, filters={"name": "broadway-build-"}) == []


SETUP_WROTE = 3  # times: the variable, the proxy, and the line of pip's file


async def test_a_setup_that_fails_makes_no_image(
    base: str, settings: Mapping[str, str], api: docker.APIClient, tmp_path: Path
) -> None:
    files = [("setup.sh", b"echo broken >&2; exit 7\n"), ("run_autograder", b"#!/bin/sh\n")]
    done = await command(
        zipped(tmp_path / "a.zip", files), "--base", base, "--tag", "broadway-test-no:1", environment=settings
    )

    assert done.exit_code == 1
    assert "setup.sh failed" in done.stderr
    assert "broken" in done.stderr
    assert api.images("broadway-test-no") == []
    assert api.containers(all=True, filters={"name": "broadway-build-"}) == []
