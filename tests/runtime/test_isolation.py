"""An error about one part of a loop is logged and counted; an outage and a cancellation end the block."""

import asyncio

import pytest
from prometheus_client import REGISTRY

from broadway.ports import PublishError, Retry, StoreError
from broadway.runtime.isolation import isolated


def counted(loop: str) -> float:
    return REGISTRY.get_sample_value("broadway_loop_errors_total", {"loop": loop}) or 0


def test_an_unexpected_error_is_counted_and_the_loop_goes_on() -> None:
    done = []
    for course in ("a", "b", "c"):
        with isolated("test", course=course):
            done.append(100 // (course != "b"))

    assert done == [100, 100]
    assert counted("test") == 1


@pytest.mark.parametrize(
    "error", [StoreError("away"), PublishError("away", unknown=True), Retry("later"), asyncio.CancelledError()]
)
def test_outages_and_cancellations_are_raised(error: BaseException) -> None:
    with pytest.raises(type(error)), isolated("outage"):
        raise error

    assert counted("outage") == 0
