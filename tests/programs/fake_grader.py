"""A grader as a process of its own, with a fake runtime: ``fake_grader.py AMQP_URL GRADER_ID SLOTS WORK_DIR``."""

import sys
from pathlib import Path

from fake_containers import FakeContainers
from pydantic import SecretStr

from broadway import service
from broadway.grader import serve
from broadway.grader.join import Membership
from broadway.settings import GraderSettings, LogSettings


def main() -> None:
    amqp_url, name, slots, work_dir = sys.argv[1:]
    settings = GraderSettings.model_construct(
        token=SecretStr(""),
        grader_id=name,
        slots=int(slots),
        pool="default",
        verbose=False,
        work_dir=Path(work_dir),
        drain_timeout=5,
    )
    membership = Membership(heartbeat_interval=1, amqp_url=amqp_url)
    service.run(
        lambda stop: serve(settings, membership, containers=FakeContainers(), stop=stop),
        service=f"grader-{name}",
        settings=LogSettings(dir=""),
    )


if __name__ == "__main__":
    main()
