"""`python -m broadway.grader` with a fake runtime: it takes the same arguments, variables and files.

With HOST, it enters the network namespace of that name, as ``ip netns exec`` would do, but in a process that may be
forked.
"""

import ctypes
import os
from pathlib import Path

from fake_containers import FakeContainers

from broadway import service
from broadway.grader.serve import run
from broadway.settings.grader import GraderSettings
from broadway.settings.loading import load

NETWORK = 0x40000000  # CLONE_NEWNET


def enter(host: str) -> None:
    """Move this process to a host's network."""
    with Path("/run/netns", host).open() as namespace:
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), NETWORK):
            raise OSError(ctypes.get_errno(), f"setns to {host}")


def main() -> None:
    if host := os.environ.get("HOST"):
        enter(host)
    settings = load(GraderSettings, prog="python -m broadway.grader")
    service.run(
        lambda stop: run(settings, containers=FakeContainers(), stop=stop),
        service=f"grader-{settings.grader_id}",
        settings=settings,
    )


if __name__ == "__main__":
    main()
