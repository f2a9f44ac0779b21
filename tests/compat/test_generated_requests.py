"""Requests generated from the descriptions of v1 and v2 do not break the API."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from harness import IS_WHOLE, Client, Place, free_port, until
from processes import processes
from pushes import MAIN
from ruamel.yaml import YAML
from signed_requests import SECRET

from broadway.domain.webhook import GitHubPush
from broadway.ingest.v1 import openapi

COURSE = "cs241"
EXAMPLES, EXAMPLES_V2 = (12, 5) if IS_WHOLE else (4, 2)
SUBMITTED = 3
STREAMS = ("logs_stream", "run_changes_stream")  # they last as long as their object, and have tests of their own
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
PHASES = "examples,coverage,fuzzing,stateful"
# The coverage of all values and their bounds takes 5,000 requests to v2. A short session covers v1's graders alone.
SHORT = PHASES if IS_WHOLE else "examples,fuzzing,stateful"


@pytest.fixture
async def api(place: Place, tmp_path: Path) -> AsyncIterator[Client]:
    courses = tmp_path / "courses.json"
    courses.write_text(json.dumps({COURSE: {"tokens": ["staff-241"], "query_tokens": ["query-241"]}}))
    port = str(free_port())
    tokens = ["--token", "cluster-token", "--operator-token", "operator-token", "--original-graders", "default"]
    flags = [*tokens, "--bind-port", port, "--course-config", str(courses)]
    async with processes(tmp_path / "processes", place.environment) as started:
        await started.service("api", *flags)
        async with Client.connect(f"http://127.0.0.1:{port}") as client:
            await until(client.is_ready)
            yield client
            assert await client.is_ready()
            assert "Traceback" not in started.log("api")


def description(directory: Path) -> Path:
    """Write v1's description with existing names, so that requests pass the first check."""
    document = YAML(typ="safe", pure=True).load(openapi.document())
    names = {"course": [COURSE], "assignment": ["mp1", "mp2"], "worker": ["w1", "w2"]}
    for name, known in names.items():
        document["components"]["parameters"][name]["schema"] = {"type": "string", "enum": known}
    path = directory / "v1.json"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("tag", "token", "phases"),
    [("course", "staff-241", SHORT), ("worker", "cluster-token", PHASES)],
    ids=["course", "worker"],
)
async def test_no_request_breaks_v1(api: Client, tmp_path: Path, tag: str, token: str, phases: str) -> None:
    await api.register(COURSE, "mp1", students=[{"image": "fake"}])
    await api.submit(COURSE, "mp1", students=SUBMITTED)
    url = f"{str(api.http.base_url).rstrip('/')}/api/v1"
    options = (f"--include-tag={tag}", "--exclude-operation-id=streamJob", f"--max-examples={EXAMPLES}")
    failures = await generated(description(tmp_path), url, token, *options, phases=phases)
    assert not failures, failures
    length = (await api.get(f"queue/{COURSE}/length", token="staff-241")).json()["data"]["length"]
    workers = (await api.get(f"worker/{COURSE}/all", token="staff-241")).json()["data"]["worker_nodes"]
    assert (length > SUBMITTED) is (token == "staff-241"), "some of the requests were good ones"
    assert bool(workers) is (tag == "worker")


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
async def test_no_request_breaks_v2(api: Client, tmp_path: Path) -> None:
    await api.register(COURSE, "mp1", students=[{"image": "fake"}])
    run_id = await api.submit(COURSE, "mp1", students=SUBMITTED)
    (job_id, *_) = (await api.status(COURSE, run_id))["student_jobs_state"]
    known = {"course": COURSE, "assignment": "mp1", "run_id": run_id, "job_id": job_id, "hook": "git"}
    path = await description_of_v2(api, tmp_path, **known)

    options = (*(f"--exclude-operation-id={name}" for name in STREAMS), f"--max-examples={EXAMPLES_V2}")
    failures = await generated(path, address(api), "staff-241", *options, phases=SHORT)

    assert not failures, failures
    run = await api.describe(COURSE, run_id)
    assert run["round"] > 1, "some of the requests were good ones"


@pytest.mark.timeout(300)
async def test_no_request_of_an_operator_breaks_v2(api: Client, tmp_path: Path) -> None:
    path = await description_of_v2(api, tmp_path, worker_id="w1")
    options = (
        "--include-path-regex=^/api/v2/(graders|dead-letters|join-tokens|pools)",
        f"--max-examples={EXAMPLES_V2}",
    )

    failures = await generated(path, address(api), "operator-token", *options, phases=SHORT)

    assert not failures, failures
    operator = {"Authorization": "Bearer operator-token"}
    graders = (await api.http.get("/api/v2/graders", headers=operator)).json()["graders"]
    assert "w1" in {each["id"] for each in graders}, "some of the requests were good ones"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("form", ["github", "json"])
async def test_no_signed_delivery_breaks_v2(api: Client, tmp_path: Path, form: str) -> None:
    await api.register(COURSE, "mp1", students=[{"image": "fake"}])
    staff = {"Authorization": "Bearer staff-241"}
    hook = f"/api/v2/courses/{COURSE}/hooks/git"
    config = {"assignment": "mp1", "secrets": [SECRET], "format": form, "branches": ["*"], "tags": ["*"]}
    assert (await api.http.put(hook, json=config, headers=staff)).is_success
    path = await description_of_v2(api, tmp_path, course=COURSE, hook="git", **{"X-GitHub-Event": "push"})
    if form == "github":
        document = json.loads(path.read_text())
        schema = GitHubPush.model_json_schema(ref_template="#/components/schemas/{model}")
        schema["properties"]["ref"] = {"type": "string", "enum": [MAIN]}
        schema["properties"]["deleted"] = {"type": "boolean", "enum": [False]}
        document["components"]["schemas"] |= schema.pop("$defs")
        document["components"]["schemas"]["JsonSubmission"] = schema
        path.write_text(json.dumps(document))

    options = ("--include-operation-id=hooks_deliver", f"--max-examples={EXAMPLES}")
    failures = await generated(path, address(api), "", *options, SCHEMATHESIS_HOOKS="signed_requests")

    assert not failures, failures
    deliveries = (await api.http.get(f"{hook}/deliveries?limit=500", headers=staff)).json()["items"]
    expected = {"github": "unmatched", "json": "accepted"}[form]
    assert expected in {each["state"] for each in deliveries}, "some of the deliveries were good ones"


async def generated(
    document: Path, url: str, token: str, *options: str, phases: str = PHASES, **environment: str
) -> str:
    """Send generated requests, and return a report of the failures, which is empty if there are none."""
    process = await asyncio.create_subprocess_exec(
        *(Path(sys.executable).with_name("schemathesis"), "run", str(document), f"--url={url}"),
        *(f"--header=Authorization: Bearer {token}", f"--checks={CHECKS}", f"--phases={phases}", "--seed=1"),
        *("--no-color", "--generation-database=none", "--suppress-health-check=all", "--warnings=off"),
        *("--request-timeout=60", *options),
        cwd=document.parent,
        env={**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONPATH": str(Path(__file__).parents[1]), **environment},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    return output.decode() if process.returncode else ""
