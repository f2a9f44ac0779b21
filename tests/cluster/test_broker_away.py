"""The control plane starts while the broker is unavailable: submissions are stored, and run once it is available."""

import json
from pathlib import Path

import pytest
from faults.proxy import Link
from harness import Client, Place, free_port, stage, until
from processes import QUICK, QUICK_DISPATCHER, processes
from yarl import URL


async def sees_broker(client: Client) -> bool:
    """Return whether the API has reached the broker and declared the exchanges."""
    sees: bool = (await client.http.get("/readyz")).json()["broker"]
    return sees


@pytest.mark.parametrize("service", ["ingest", pytest.param("api", marks=pytest.mark.long)])
async def test_submissions_are_accepted_without_a_broker_from_the_start(
    place: Place, tmp_path: Path, service: str
) -> None:
    courses = tmp_path / "courses.json"
    courses.write_text(json.dumps({"cs241": {"tokens": ["staff-241"]}}))
    port, amqp_port = free_port(), free_port()
    url = URL(place.amqp_url)
    address = str(url.with_port(amqp_port))  # no server listens there yet
    flags = QUICK if service == "ingest" else QUICK_DISPATCHER
    async with (
        processes(tmp_path / "site", {**place.environment, "BROADWAY_AMQP_URL": address}) as running,
        Client.connect(f"http://localhost:{port}") as client,
    ):
        await running.service(service, "--course-config", str(courses), "--bind-port", str(port), *flags)
        await until(client.is_ready)
        ready = await client.http.get("/readyz")
        assert (ready.status_code, ready.json()["broker"]) == (200, False)
        assert "since" in ready.json()["away"]["broker"]
        await client.register("cs241", "mp1", students=[stage("exit", "0")])
        run_id = await client.submit("cs241", "mp1", students=3)

        async with Link.to(str(url.host), url.port or 0, port=amqp_port):
            if service == "ingest":
                await running.service("results", *QUICK)
                await running.service("dispatcher", *QUICK_DISPATCHER)
            await until(lambda: sees_broker(client))  # a grader that starts before the topology exists would exit
            await running.grader("host1")
            run = await client.finished("cs241", run_id)
            assert [job["outcome"] for job in run["jobs"]] == ["succeeded"] * 3
            assert "facts are not heard yet" not in running.log(service)
            assert await running.terminate(service) == 0


@pytest.mark.parametrize("service", ["api", pytest.param("ingest", marks=pytest.mark.long)])
async def test_a_service_that_waits_for_the_broker_stops_on_sigterm(place: Place, tmp_path: Path, service: str) -> None:
    port = free_port()
    environment = {**place.environment, "BROADWAY_AMQP_URL": f"amqp://nobody:x@127.0.0.1:{free_port()}/"}
    async with (
        processes(tmp_path / "site", environment) as running,
        Client.connect(f"http://localhost:{port}") as client,
    ):
        await running.service(service, "--bind-port", str(port))
        await until(client.is_ready)
        await until(lambda: "waiting for the broker" in running.log(service))
        assert await running.terminate(service) == 0
        assert "Traceback" not in running.log(service)
