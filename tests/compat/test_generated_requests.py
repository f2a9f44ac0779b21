"""Requests generated from the descriptions of v1 and v2 do not break the API."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from harness import IS_WHOLE, Client, Place, free_port, token_of, until
from processes import Processes, processes
from pushes import MAIN
from ruamel.yaml import YAML
from signed_requests import SECRET

from broadway.domain.webhook import GitHubPush
from broadway.ingest.v1 import openapi

EXAMPLES, EXAMPLES_V2 = (12, 5) if IS_WHOLE else (4, 2)
DELIVERIES = 120 if IS_WHOLE else EXAMPLES  # few of those that look like GitHub's are good ones
SUBMITTED = 3
STREAMS = ("logs_stream", "run_changes_stream")  # they last as long as their object, and have tests of their own
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
PHASES = "examples,coverage,fuzzing,stateful"
# The coverage of all values and their bounds takes 5,000 requests to v2. A short session covers v1's graders alone.
SHORT = PHASES if IS_WHOLE else "examples,fuzzing,stateful"
# The first phase makes up the examples that v2's description lacks, nearly all, as the third one does.
SHORT_V2 = PHASES if IS_WHOLE else "fuzzing,stateful"
COURSES = [f"cs{number}" for number in range(241, 251)]  # one for each test
CACHE = Path(__file__).parents[2] / ".hypothesis"  # with a table of all characters, which takes a second to make

Places = Callable[[], contextlib.AbstractAsyncContextManager[Place]]


@pytest.fixture(scope="module")
async def served(places: Places, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Client, Processes]]:
    """The API of all tests, and its process."""
    directory = tmp_path_factory.mktemp("served")
    courses = directory / "courses.json"
    courses.write_text(json.dumps({course: {"tokens": [token_of(course)]} for course in COURSES}))
    port = str(free_port())
    tokens = ["--token", "cluster-token", "--operator-token", "operator-token", "--original-graders", "default"]
    # All requests come from one address, and many of them have wrong tokens.
    flags = [*tokens, "--bind-port", port, "--course-config", str(courses), "--http-failures-per-minute", "1000000"]
    async with (
        places() as place,
        processes(directory / "processes", place.environment) as started,
        Client.connect(f"http://127.0.0.1:{port}") as client,
    ):
        await started.service("api", *flags)
        await until(client.is_ready)
        yield client, started


@pytest.fixture
async def api(served: tuple[Client, Processes]) -> AsyncIterator[Client]:
    client, started = served
    yield client
    assert await client.is_ready()
    assert "Traceback" not in started.log("api")


@pytest.fixture(scope="module")
def unused() -> Iterator[str]:
    return iter(COURSES)


@pytest.fixture
def course(unused: Iterator[str]) -> str:
    """A course that no other test uses."""
    return next(unused)


def description(directory: Path, course: str) -> Path:
    """Write v1's description with existing names, so that requests pass the first check."""
    document = YAML(typ="safe", pure=True).load(openapi.document())
    names = {"course": [course], "assignment": ["mp1", "mp2"], "worker": ["w1", "w2"]}
    for name, known in names.items():
        document["components"]["parameters"][name]["schema"] = {"type": "string", "enum": known}
    path = directory / "v1.json"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("tag", "phases"), [("course", SHORT), ("worker", PHASES)], ids=["course", "worker"])
async def test_no_request_breaks_v1(api: Client, course: str, tmp_path: Path, tag: str, phases: str) -> None:
    staff = token_of(course)
    await api.register(course, "mp1", students=[{"image": "fake"}])
    await api.submit(course, "mp1", students=SUBMITTED)
    before = await workers(api, course)
    url = f"{address(api)}/api/v1"
    options = (f"--include-tag={tag}", "--exclude-operation-id=streamJob", f"--max-examples={EXAMPLES}")
    token = {"course": staff, "worker": "cluster-token"}[tag]
    failures = await generated(description(tmp_path, course), url, token, *options, phases=phases)
    assert not failures, failures
    length = (await api.get(f"queue/{course}/length", token=staff)).json()["data"]["length"]
    assert (length > SUBMITTED) is (tag == "course"), "some of the requests were good ones"
    assert (await workers(api, course) > before) is (tag == "worker")


async def workers(api: Client, course: str) -> int:
    return len((await api.get(f"worker/{course}/all", token=token_of(course))).json()["data"]["worker_nodes"])


async def description_of_v2(api: Client, directory: Path, **known: str) -> Path:
    """Write v2's description with known ids, so that requests pass the first check."""
    document = (await api.http.get("/api/v2/openapi.json")).json()
    for item in document["paths"].values():
        for parameter in (each for operation in item.values() for each in operation["parameters"]):
            if parameter["name"] in known:
                parameter["schema"] = {"type": "string", "enum": [known[parameter["name"]]]}
    path = directory / "v2.json"
    path.write_text(json.dumps(document))
    return path


def address(api: Client) -> str:
    return str(api.http.base_url).rstrip("/")


@pytest.mark.timeout(300)
async def test_no_request_breaks_v2(api: Client, course: str, tmp_path: Path) -> None:
    await api.register(course, "mp1", students=[{"image": "fake"}])
    run_id = await api.submit(course, "mp1", students=SUBMITTED)
    (job_id, *_) = (await api.status(course, run_id))["student_jobs_state"]
    known = {"course": course, "assignment": "mp1", "run_id": run_id, "job_id": job_id, "hook": "git"}
    path = await description_of_v2(api, tmp_path, **known)

    options = (*(f"--exclude-operation-id={name}" for name in STREAMS), f"--max-examples={EXAMPLES_V2}")
    failures = await generated(path, address(api), token_of(course), *options, phases=SHORT_V2)

    assert not failures, failures
    run = await api.describe(course, run_id)
    assert run["round"] > 1, "some of the requests were good ones"


@pytest.mark.timeout(300)
async def test_no_request_of_an_operator_breaks_v2(api: Client, tmp_path: Path) -> None:
    path = await description_of_v2(api, tmp_path, worker_id="ordered")
    options = (
        "--include-path-regex=^/api/v2/(graders|dead-letters|join-tokens|pools)",
        f"--max-examples={EXAMPLES_V2}",
    )

    failures = await generated(path, address(api), "operator-token", *options, phases=SHORT_V2)

    assert not failures, failures
    operator = {"Authorization": "Bearer operator-token"}
    graders = (await api.http.get("/api/v2/graders", headers=operator)).json()["graders"]
    assert "ordered" in {each["id"] for each in graders}, "some of the requests were good ones"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("form", ["github", "json"])
async def test_no_signed_delivery_breaks_v2(api: Client, course: str, tmp_path: Path, form: str) -> None:
    await api.register(course, "mp1", students=[{"image": "fake"}])
    staff = {"Authorization": f"Bearer {token_of(course)}"}
    hook = f"/api/v2/courses/{course}/hooks/git"
    config = {"assignment": "mp1", "secrets": [SECRET], "format": form, "branches": ["*"], "tags": ["*"]}
    assert (await api.http.put(hook, json=config, headers=staff)).is_success
    path = await description_of_v2(api, tmp_path, course=course, hook="git", **{"X-GitHub-Event": "push"})
    if form == "github":
        document = json.loads(path.read_text())
        schema = GitHubPush.model_json_schema(ref_template="#/components/schemas/{model}")
        schema["properties"]["ref"] = {"type": "string", "enum": [MAIN]}
        schema["properties"]["deleted"] = {"type": "boolean", "enum": [False]}
        document["components"]["schemas"] |= schema.pop("$defs")
        document["components"]["schemas"]["JsonSubmission"] = schema
        path.write_text(json.dumps(document))

    options = ("--include-operation-id=hooks_deliver", f"--max-examples={DELIVERIES}")
    failures = await generated(path, address(api), "", *options, SCHEMATHESIS_HOOKS="signed_requests")

    assert not failures, failures
    deliveries = (await api.http.get(f"{hook}/deliveries?limit=500", headers=staff)).json()["items"]
    expected = {"github": "unmatched", "json": "accepted"}[form]
    assert expected in {each["state"] for each in deliveries}, "some of the deliveries were good ones"


async def generated(
    document: Path, url: str, token: str, *options: str, phases: str = PHASES, **environment: str
) -> str:
    """Send generated requests, and return a report of the failures, which is empty if there are none."""
    modules = str(Path(__file__).parents[1])
    own = {"PYTHONWARNINGS": "ignore", "PYTHONPATH": modules, "HYPOTHESIS_STORAGE_DIRECTORY": str(CACHE)}
    process = await asyncio.create_subprocess_exec(
        *(Path(sys.executable).with_name("schemathesis"), "run", str(document), f"--url={url}"),
        *(f"--header=Authorization: Bearer {token}", f"--checks={CHECKS}", f"--phases={phases}", "--seed=1"),
        *("--no-color", "--generation-database=none", "--suppress-health-check=all", "--warnings=off"),
        *("--request-timeout=60", *options),
        cwd=document.parent,
        env=os.environ | own | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return output.decode() if process.returncode else ""
