"""`make test CONTAINERS=1` with stand-ins, under names of their own, for the images that it pulls."""

import os

import anyio
import pytest
from compose.stack import ROOT

from compose import stand_ins

pytestmark = pytest.mark.long

TESTS = (
    "tests/mongo/test_graders.py",
    "tests/mongo/test_jobs.py",
    "tests/mongo/test_runs.py",
    "tests/mongo/test_client.py",
    "tests/rabbit/test_rabbit.py",
    "tests/cluster/test_journey.py",
)


@pytest.mark.timeout(600)
async def test_the_tests_of_store_broker_and_journey_pass(broker_and_store: None, docker_host: str) -> None:
    assert broker_and_store is None
    images = {
        "BROADWAY_TEST_RABBITMQ_IMAGE": f"{stand_ins.KEPT}:rabbitmq",
        "BROADWAY_TEST_MONGODB_IMAGE": f"{stand_ins.KEPT}:mongo",
    }
    done = await anyio.run_process(
        [str(ROOT / "scripts" / "test"), *TESTS],
        env={**os.environ, **images, "CONTAINERS": "1", "DOCKER_HOST": docker_host, "WORKERS": "2"},
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode()[-4000:] + done.stderr.decode()[-4000:]
