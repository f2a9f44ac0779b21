"""A grader process with a fake runtime: ``fake_grader.py URL GRADER_ID SLOTS WORK_DIR [TOKEN]``.

The URL is the broker's or the API's. ``FAKE_METRICS_PORT`` is the port of its metrics, ``FAKE_HEALTH_INTERVAL`` the
seconds between two checks of its engine. The engine does not answer while the file ``engine-away`` is in WORK_DIR.
"""

import os
import sys
from functools import partial
from pathlib import Path

from fake_containers import FakeContainers
from pydantic import SecretStr

from broadway import service
from broadway.grader import serve
from broadway.grader.serve import run
from broadway.runtime.health import INTERVAL, Health
from broadway.settings.grader import GraderSettings
from broadway.settings.sections import LogSettings


class Engine(FakeContainers):
    """A fake engine that a file stops."""

    def __init__(self, stop: Path) -> None:
        super().__init__()
        self.stop = stop

    async def ping(self) -> None:
        self.is_away = self.stop.exists()
        await super().ping()


def main() -> None:
    url, name, slots, work_dir, *token = sys.argv[1:]
    is_broker = url.startswith("amqp")
    settings = GraderSettings.model_construct(
        token=SecretStr(*token or [""]),
        grader_id=name,
        api_host="http://" if is_broker else url,
        amqp_url=SecretStr(url) if is_broker else None,
        heartbeat_interval=1,
        slots=int(slots),
        pool="default",
        verbose=False,
        work_dir=Path(work_dir),
        drain_timeout=5,
        metrics_port=int(os.environ.get("FAKE_METRICS_PORT", "0")),
        log=LogSettings(dir=""),
    )
    every = float(os.environ.get("FAKE_HEALTH_INTERVAL", INTERVAL))
    serve.Health = partial(Health, interval=every)  # type: ignore[assignment, misc]
    service.run(
        lambda stop: run(settings, containers=Engine(Path(work_dir, "engine-away")), stop=stop),
        service=f"grader-{name}",
        settings=settings,
    )


if __name__ == "__main__":
    main()
