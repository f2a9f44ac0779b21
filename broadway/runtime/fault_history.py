"""A log of every service's actions, for a checker that reads it afterwards.

If ``BROADWAY_HISTORY`` names a file when a process starts, the process appends a line of JSON to it for each accepted
submission, execution, outcome, step and order. Otherwise nothing is written.
"""

import json
import os
import time
from collections.abc import Mapping
from typing import Any

VARIABLE = "BROADWAY_HISTORY"


class _Armed:
    """The file of this process's history; None if it keeps no history."""

    path: str | None = None


def arm(environment: Mapping[str, str]) -> None:
    """Keep this process's history in the file that an environment names; keep no history if it names no file."""
    _Armed.path = environment.get(VARIABLE)


def note(what: str, **facts: Any) -> None:
    """Append one line in one write: ``{"at": seconds, "pid": …, "what": …, …}``."""
    if _Armed.path is None:
        return
    line = json.dumps({"at": time.time(), "pid": os.getpid(), "what": what, **facts}) + "\n"
    descriptor = os.open(_Armed.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
