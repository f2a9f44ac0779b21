"""What every role did, line by line, for a checker that looks at it afterwards.

With ``BROADWAY_HISTORY`` every process appends a line of JSON for each accepted submission, execution, outcome, step
and order to that file; without it nothing is written.
"""

import json
import os
import time
from typing import Any

VARIABLE = "BROADWAY_HISTORY"

_path = os.environ.get(VARIABLE)


def note(what: str, **facts: Any) -> None:
    """Append one line, whole or not at all: ``{"at": seconds, "pid": …, "what": …, …}``."""
    if _path is None:
        return
    line = json.dumps({"at": time.time(), "pid": os.getpid(), "what": what, **facts}) + "\n"
    descriptor = os.open(_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)
