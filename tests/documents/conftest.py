"""A deployment in place of that of `broadway up`, once for the commands of all documents."""

import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
from documents.reading import API, ROOT
from documents.shell import Shell
from harness import METRICS_TOKEN, Client, Place, free_port, stage, until
from processes import CLUSTER_TOKEN, OPERATOR_TOKEN, QUICK_DISPATCHER, processes
from servers import Node

from broadway.local.up_variables import keep

COURSE, TOKEN = "cs101", "change-me-staff"  # as in docs/examples/courses.json
GRADERS = ("host7", "host-1")  # the graders that documents name
Places = Callable[[], contextlib.AbstractAsyncContextManager[Place]]


@pytest.fixture(scope="session")
async def shell(places: Places, broker_node: Node, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shell]:
    """A shell in a checkout whose deployment is up, with a run that is over: the variables `run` and `job`."""
    directory = tmp_path_factory.mktemp("documents")
    async with places() as place, processes(directory / "processes", place.environment) as started:
        address = f"127.0.0.1:{free_port()}"
        tokens = ("--token", CLUSTER_TOKEN, "--operator-token", OPERATOR_TOKEN, "--metrics-token", METRICS_TOKEN)
        flags = (*tokens, "--bind-port", address.rpartition(":")[2], *QUICK_DISPATCHER)
        await started.service("api", *flags, "--course-config", str(ROOT / "docs" / "examples" / "courses.json"))
        for grader in GRADERS:
            await started.attached_grader(grader, f"http://{address}")
        async with Client.connect(f"http://{address}") as client:
            await until(client.is_ready)
            run, job = await finished_run(client)
        environment = {
            **place.environment,
            "BROADWAY_MANAGEMENT_URL": broker_node.administration,
            "BROADWAY_SERVER": f"http://{address}",
            "run": run,
            "job": job,
            **dict.fromkeys(
                ("CLIENT_SECRET", "CLUSTER_TOKEN", "JOIN_TOKEN", "METRICS_TOKEN", "TOKEN", "token"), CLUSTER_TOKEN
            ),
            "OPERATOR_TOKEN": OPERATOR_TOKEN,
            "METRICS_TOKEN": METRICS_TOKEN,
        }
        opened = Shell.open(directory / "checkout", environment, {API: address})
        kept = opened.checkout / ".broadway" / "up" / "operator-token"
        kept.parent.mkdir(parents=True)
        kept.write_text(OPERATOR_TOKEN)
        keep(kept.parent, _variables(environment))
        yield opened


def _variables(environment: dict[str, str]) -> dict[str, str]:
    """Return the variables that a `broadway up` would keep for commands."""
    names = ("BROADWAY_SERVER", "BROADWAY_AMQP_URL", "BROADWAY_MONGODB_DSN", "BROADWAY_MANAGEMENT_URL")
    return {name: environment[name] for name in names} | {"BROADWAY_OPERATOR_TOKEN": OPERATOR_TOKEN}


async def finished_run(client: Client) -> tuple[str, str]:
    """Run two jobs of which one fails; return the run's id and a job's."""
    config = {"student_pipeline": [stage("fails-for", "STUDENT_ID", "1")]}
    students = {"students_env": [{"STUDENT_ID": "s0"}, {"STUDENT_ID": "s1"}]}
    (await client.post(f"grading_config/{COURSE}/given", config, token=TOKEN)).raise_for_status()
    answer = await client.post(f"grading_run/{COURSE}/given", students, token=TOKEN)
    run = answer.raise_for_status().json()["data"]["grading_run_id"]

    async def jobs() -> list[str]:
        path = f"courses/{COURSE}/runs/{run}"
        described, listed = [await client.get(each, token=TOKEN, version="v2") for each in (path, f"{path}/jobs")]
        found = listed.raise_for_status().json()["items"]
        return [job["id"] for job in found] if described.json()["state"] == "finished" else []

    return run, (await until(jobs))[0]
