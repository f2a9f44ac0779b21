"""The report of a whole session of the fault suite."""

import os
from collections.abc import Iterator

import pytest
from faults.report import DOCUMENT, Report


@pytest.fixture(scope="session")
def report() -> Iterator[Report]:
    collected = Report()
    yield collected
    if "BROADWAY_FAULTS" in os.environ:
        collected.write(DOCUMENT)
