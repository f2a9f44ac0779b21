"""What every role did, line by line, for a checker that looks at it afterwards.

With ``BROADWAY_HISTORY`` in its environment at its start, every process appends a line of JSON for each accepted
submission, execution, outcome, step and order to that file; without it nothing is written.
"""

import json
import os
import time
from collections.abc import Mapping
from typing import Any

VARIABLE = "BROADWAY_HISTORY"


class _Armed:
    """The file of this process's history; None in a process that keeps none."""

    path: str | None = None


def arm(environment: Mapping[str, str]) -> None:
    """Keep this process's history in the file that an environment names, or nowhere."""
    _Armed.path = environment.get(VARIABLE)


def note(what: str, **facts: Any) -> None:
    """Append one line, whole or not at all: ``{"at": seconds, "pid": …, "what": …, …}``."""
    if _Armed.path is None:
        return
    line = json.dumps({"at": time.time(), "pid": os.getpid(), "what": what, **facts}) + "\n"
    descriptor = os.open(_Armed.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
