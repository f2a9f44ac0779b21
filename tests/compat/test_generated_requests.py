"""Requests generated from the description of v1, to the API as a process: none breaks it, answers are as described."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml
from harness import Client, Place, free_port, until
from processes import processes

DESCRIPTION = Path(__file__).parents[2] / "docs" / "openapi-v1.yaml"
COURSE = "cs241"
EXAMPLES = 12
SUBMITTED = 3
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
PHASES = "examples,coverage,fuzzing,stateful"


@pytest.fixture
async def api(place: Place, tmp_path: Path) -> AsyncIterator[Client]:
    courses = tmp_path / "courses.json"
    courses.write_text(json.dumps({COURSE: {"tokens": ["staff-241"], "query_tokens": ["query-241"]}}))
    port = str(free_port())
    flags = ["--token", "cluster-token", "--bind-port", port, "--course-config", str(courses)]
    async with processes(tmp_path / "processes", place.environment) as started:
        await started.service("api", *flags)
        async with Client.connect(f"http://127.0.0.1:{port}") as client:
            await until(client.is_ready)
            yield client
            assert await client.is_ready()
            assert "Traceback" not in started.log("api")


def description(directory: Path) -> Path:
    """With names that exist, so that requests get past the first check."""
    document = yaml.safe_load(DESCRIPTION.read_text())
    names = {"course": [COURSE], "assignment": ["mp1", "mp2"], "worker": ["w1", "w2"]}
    for name, known in names.items():
        document["components"]["parameters"][name]["schema"] = {"type": "string", "enum": known}
    path = directory / "v1.json"
    path.write_text(json.dumps(document))
    return path


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("tag", "token"), [("course", "staff-241"), ("worker", "cluster-token")])
async def test_no_request_breaks_it(api: Client, tmp_path: Path, tag: str, token: str) -> None:
    await api.register(COURSE, "mp1", students=[{"image": "fake"}])
    await api.submit(COURSE, "mp1", students=SUBMITTED)
    program = Path(sys.executable).with_name("schemathesis")
    process = await asyncio.create_subprocess_exec(
        *(
            program,
            "run",
            str(description(tmp_path)),
            f"--url={str(api.http.base_url).rstrip('/')}/api/v1",
        ),
        *(f"--header=Authorization: Bearer {token}", f"--include-tag={tag}", "--exclude-operation-id=streamJob"),
        *(f"--checks={CHECKS}", f"--phases={PHASES}", f"--max-examples={EXAMPLES}", "--seed=1", "--no-color"),
        *("--generation-database=none", "--suppress-health-check=all", "--warnings=off", "--request-timeout=20"),
        cwd=tmp_path,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()

    assert process.returncode == 0, output.decode()
    length = (await api.get(f"queue/{COURSE}/length", token="staff-241")).json()["data"]["length"]
    workers = (await api.get(f"worker/{COURSE}/all", token="staff-241")).json()["data"]["worker_nodes"]
    assert (length > SUBMITTED) is (token == "staff-241"), "some of the requests were good ones"
    assert bool(workers) is (tag == "worker")
