"""Jobs in the form of the original's protocols, with our additions for graders of ours; polls as the broker fails."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from broadway.domain.grader import Grader
from broadway.ingest.gateway.handouts import Handout, Handouts
from broadway.messages.http import JobMessage
from broadway.ports import PublishError

STAGES = [{"image": "x"}]


def test_the_originals_graders_get_their_own_two_keys() -> None:
    assert Handout("j1", "e1", STAGES).message == {"grading_job_id": "j1", "stages": STAGES}


def test_graders_of_ours_learn_the_course() -> None:
    message = Handout("j1", "e1", STAGES, "cs1").message
    assert JobMessage.model_validate(message) == JobMessage(grading_job_id="j1", stages=STAGES, course="cs1")


def test_an_earlier_api_names_no_course() -> None:
    assert JobMessage.model_validate({"grading_job_id": "j1", "stages": STAGES}).course == ""


class Pool:
    """Graders and jobs of a pool in which a job waits, and a broker whose first consumers fail."""

    def __init__(self, failures: int) -> None:
        self.failures = iter(range(failures))
        self.takes = 0

    async def seen(self, *_: object) -> None:
        pass

    async def are_any_waiting(self, *_: object) -> bool:
        return True

    @asynccontextmanager
    async def single_take(self, *_: object, **__: object) -> AsyncIterator["Pool"]:
        yield self

    async def take(self, **_: object) -> None:
        self.takes += 1
        for _ in self.failures:
            raise PublishError("connection closed", unknown=True)


def handouts(pool: Pool, pause: float = 0.0) -> Handouts:
    others = dict.fromkeys(("recorder", "results", "changes", "policy"), cast("Any", None))
    return Handouts(
        graders=cast("Any", pool), jobs=cast("Any", pool), broker=cast("Any", pool), broker_pause=pause, **others
    )


async def test_a_poll_goes_on_when_the_broker_closes_its_connection() -> None:
    pool = Pool(failures=2)

    assert await handouts(pool).poll(Grader("g1"), wait=0, patience=3600) is None
    assert pool.takes == 3


async def test_a_poll_fails_if_the_broker_is_unavailable_until_its_end() -> None:
    with pytest.raises(PublishError):
        await handouts(Pool(failures=1), pause=3600).poll(Grader("g1"), wait=0, patience=60)
