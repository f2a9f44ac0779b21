"""A grader process with a fake runtime: ``fake_grader.py URL GRADER_ID SLOTS WORK_DIR [TOKEN]``.

The URL is the broker's or the API's.
"""

import sys
from pathlib import Path

from fake_containers import FakeContainers
from pydantic import SecretStr

from broadway import service
from broadway.grader.serve import run
from broadway.settings.programs import GraderSettings
from broadway.settings.sections import LogSettings


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
        log=LogSettings(dir=""),
    )
    service.run(
        lambda stop: run(settings, containers=FakeContainers(), stop=stop),
        service=f"grader-{name}",
        settings=settings,
    )


if __name__ == "__main__":
    main()
