"""The grader process before its first job."""

import json
import signal
import sys
from pathlib import Path

from harness import free_port, until
from processes import processes


async def test_a_grader_that_waits_for_the_api_stops_at_sigint(docker_host: str, tmp_path: Path) -> None:
    config = tmp_path / "conf.json"
    address = f"http://127.0.0.1:{free_port()}"
    config.write_text(json.dumps({"token": "cluster-token", "id": "host1", "api_host": address}))
    async with processes(tmp_path / "processes", {"DOCKER_HOST": docker_host}, is_warm=False) as started:
        await started.start("grader", sys.executable, "-m", "broadway.grader", str(config))

        await until(lambda: "waiting for the API" in started.log("grader"))
        process = started.running.pop("grader")
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0
        assert (started.directory / "logs" / "grader-host1.log").exists()
