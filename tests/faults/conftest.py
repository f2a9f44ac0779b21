"""The report of a session of the fault suite."""

from collections.abc import Iterator

import pytest
from faults.report import DOCUMENT, Report
from harness import IS_WHOLE


@pytest.fixture(scope="session")
def report() -> Iterator[Report]:
    collected = Report()
    yield collected
    if IS_WHOLE:
        collected.write(DOCUMENT)
