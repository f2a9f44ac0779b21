"""The report of a whole session of the fault suite."""

import os
from collections.abc import Iterator

import pytest
from faults.report import DOCUMENT, Report

IS_WHOLE = "BROADWAY_FAULTS" in os.environ
# These take minutes each, whatever their size; `make faults` has them.
collect_ignore = (
    [] if IS_WHOLE else ["test_backlog.py", "test_cluster.py", "test_disasters.py", "test_zombie_queues.py"]
)


@pytest.fixture(scope="session")
def report() -> Iterator[Report]:
    collected = Report()
    yield collected
    if IS_WHOLE:
        collected.write(DOCUMENT)
