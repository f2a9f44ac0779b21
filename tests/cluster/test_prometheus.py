"""Prometheus, with the rules and the dashboard of deploy/, watches a deployment at work."""

import contextlib
import json
import os
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
from harness import METRICS_TOKEN, Client, Place, free_port, stage, until
from processes import CLUSTER_TOKEN, OPERATOR_TOKEN, QUICK_DISPATCHER, Processes, processes
from pushes import push, signature
from receivers import Receiver
from watching import Prometheus, command, configure

DEPLOY = Path(__file__).parents[2] / "deploy"
COURSE, SECRET = "cs241", "a-secret-of-this-hook"
STAFF = {"Authorization": "Bearer staff-241"}
GRADER = "host7"
TARGETS = 2  # the API and the grader
Places = Callable[[], contextlib.AbstractAsyncContextManager[Place]]


@dataclass
class Watched:
    """A deployment as processes, the Prometheus that watches it, and the grader's directory."""

    api: Client
    prometheus: Prometheus
    programs: Processes
    grader: Path
    receiver: Receiver


@pytest.fixture(scope="module")
async def watched(places: Places, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Watched]:
    tmp_path = tmp_path_factory.mktemp("watched")
    port, grader_port, own_port = free_port(), free_port(), free_port()
    (tmp_path / "courses.json").write_text(json.dumps({COURSE: {"tokens": ["staff-241"]}}))
    async with contextlib.AsyncExitStack() as stack:
        place = await stack.enter_async_context(places())
        receiver = await stack.enter_async_context(Receiver.open())
        programs = await stack.enter_async_context(processes(tmp_path / "logs", place.environment))
        flags = {
            "--token": CLUSTER_TOKEN,
            "--operator-token": OPERATOR_TOKEN,
            "--course-config": str(tmp_path / "courses.json"),
            "--bind-addr": "127.0.0.1",
            "--bind-port": str(port),
            "--metrics-token": METRICS_TOKEN,
            "--callback-allow": "127.0.0.0/8",
            "--callback-ports": str(receiver.port),
            "--callback-http": "true",
        }
        await programs.service("api", *QUICK_DISPATCHER, *(word for pair in flags.items() for word in pair))
        address = f"http://127.0.0.1:{port}"
        api = await stack.enter_async_context(Client.connect(address))
        await until(api.is_ready)
        programs.environment = {
            **programs.environment,
            "FAKE_METRICS_PORT": str(grader_port),
            "FAKE_HEALTH_INTERVAL": "0.5",
        }
        await programs.attached_grader(GRADER, address, slots=2)
        config = configure(tmp_path, api=port, grader=grader_port, token=METRICS_TOKEN, is_quick=True)
        await programs.launch("prometheus", command(config, port=own_port), dict(os.environ))
        client = httpx2.AsyncClient(base_url=f"http://127.0.0.1:{own_port}")
        prometheus = Prometheus(await stack.enter_async_context(client))
        watched = Watched(api, prometheus, programs, programs.directory / "work" / GRADER, receiver)

        await until(lambda: prometheus.are_up(TARGETS))
        yield watched


def panels() -> dict[str, list[str]]:
    """Return the queries of the dashboard, by the title of their panel."""
    dashboard = json.loads((DEPLOY / "grafana" / "broadway.json").read_text())
    return {
        panel["title"]: [target["expr"].replace("$__rate_interval", "1m") for target in panel["targets"]]
        for panel in dashboard["panels"]
        if panel["type"] != "row"
    }


async def ask(watched: Watched, method: str, path: str, **more: Any) -> None:
    answer = await watched.api.http.request(method, f"/api/v2/courses/{COURSE}/{path}", headers=STAFF, **more)
    assert answer.is_success, answer.text


async def an_evening(watched: Watched) -> None:
    """Grade a run, faults among its jobs, a push and an upload; call a receiver back; leave jobs that wait."""
    client, hook = watched.api, {"assignment": "mp1", "secrets": [SECRET]}
    await client.register(COURSE, "mp1", students=[stage("exit", "0")])
    await client.register(COURSE, "broken", students=[stage("fault", "start")])
    await client.register(COURSE, "endless", students=[stage("hang", timeout=600)])
    endpoint = {"name": "lms", "url": f"http://127.0.0.1:{watched.receiver.port}/"}
    await ask(watched, "POST", "callbacks", json=endpoint)
    await ask(watched, "PUT", "assignments/mp1/roster", json={"students": [{"student": "a", "repository": "cs/a"}]})
    await ask(watched, "PUT", "hooks/git", json=hook)
    await client.finished(COURSE, await client.submit(COURSE, "mp1", students=4))
    await client.finished(COURSE, await client.submit(COURSE, "broken", students=1))
    body = json.dumps(push("a")).encode()
    signed = {"X-GitHub-Delivery": "d1", "X-GitHub-Event": "push", "X-Hub-Signature-256": signature(body, SECRET)}
    pushed = await client.http.post(f"/api/v2/courses/{COURSE}/hooks/git", content=body, headers=signed)
    assert pushed.is_success, pushed.text
    await ask(watched, "POST", "assignments/mp1/submissions?student=a", files=[("files", ("main.c", b"int a;"))])
    await client.submit(COURSE, "endless", students=5)
    await until(lambda: watched.receiver.requests)


@pytest.mark.timeout(180)
async def test_an_engine_dies_at_ten_to_midnight_and_the_alert_says_what_to_do(watched: Watched) -> None:
    await watched.api.register(COURSE, "mp1", students=[stage("exit", "0")])
    assert await watched.prometheus.firing("BroadwayEngineDown") == []

    (watched.grader / "engine-away").touch()
    (alert,) = await until(lambda: watched.prometheus.firing("BroadwayEngineDown"))
    (pool,) = await until(lambda: watched.prometheus.firing("BroadwayPoolWithoutSlots"))
    instance = alert["labels"]["instance"]
    assert alert["annotations"]["summary"] == f"The container engine of the grader {instance} does not answer"
    assert "takes no jobs" in alert["annotations"]["description"]
    assert "systemctl restart docker" in alert["annotations"]["description"]
    assert pool["annotations"]["summary"] == "No grader takes jobs of the pool default"
    assert re.fullmatch(r"docs/monitoring\.md#[a-z-]+", alert["annotations"]["runbook"])
    run = await watched.api.submit(COURSE, "mp1", students=2)

    (watched.grader / "engine-away").unlink()

    async def is_over() -> bool:
        return not await watched.prometheus.firing("BroadwayEngineDown")

    await until(is_over)
    graded = await watched.api.finished(COURSE, run)
    assert [(job["outcome"], job["attempts"]) for job in graded["jobs"]] == [("succeeded", 1)] * 2


@pytest.mark.timeout(180)
async def test_the_queries_of_all_panels_return_data(watched: Watched) -> None:
    await an_evening(watched)
    missing: list[tuple[str, str]] = [(title, query) for title, queries in panels().items() for query in queries]

    async def have_data() -> bool:
        missing[:] = [(title, query) for title, query in missing if not await watched.prometheus.query(query)]
        return not missing

    try:
        await until(have_data)
    except AssertionError:
        pytest.fail(f"no data: {missing}")
