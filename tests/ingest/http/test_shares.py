"""Reads have places by course and turns by size; other requests need neither."""

import asyncio

import pytest
from doors import Doors
from harness import stage, token_of

from broadway.ingest.http.admission import LimitError
from broadway.ingest.http.rights import Auth, Load, rights_of, takes
from broadway.ingest.http.shares import RUNNING_LARGE, ReadShares
from broadway.ingest.v1 import runs
from broadway.settings.http import HttpSettings

TOO_MANY, BUSY = 429, 503


def shares() -> ReadShares:
    return ReadShares.of(HttpSettings(reads=5, reads_per_course=4, large_reads=3, large_reads_per_course=2))


@pytest.mark.parametrize("load", [Load.LARGE, Load.SHARED])
def test_a_course_leaves_large_reads_to_others(load: Load) -> None:
    places = shares()
    first, _ = [places.place(load, "cs1") for _ in range(2)]
    with pytest.raises(LimitError, match="too many large reads of this course at a time; try again in 5 s") as refused:
        places.place(load, "cs1")
    assert (refused.value.status, refused.value.headers) == (TOO_MANY, {"Retry-After": "5"})

    places.place(load, "cs2")
    with pytest.raises(LimitError, match="too many large reads at a time") as refused:
        places.place(load, "cs3")
    assert refused.value.status == BUSY
    first.release()
    places.place(load, "cs3")


def test_small_reads_have_places_while_large_ones_have_none() -> None:
    places = shares()
    for course in ("cs1", "cs1", "cs2"):
        places.place(Load.LARGE, course)
    with pytest.raises(LimitError):
        places.place(Load.LARGE, "cs2")
    for _ in range(4):
        places.place(Load.SMALL, "cs1")


async def test_small_reads_have_their_turn_while_large_ones_wait() -> None:
    turns, begun, end = shares(), list[Load](), asyncio.Event()

    async def read(load: Load) -> None:
        async with turns.turn(load):
            begun.append(load)
            await end.wait()

    async with asyncio.TaskGroup() as group:
        for load in [Load.LARGE] * (RUNNING_LARGE + 1) + [Load.SMALL, Load.SHARED]:
            group.create_task(read(load))
        for _ in range(10):
            await asyncio.sleep(0)
        assert begun == [Load.LARGE] * RUNNING_LARGE + [Load.SMALL, Load.SHARED]
        end.set()


@pytest.mark.parametrize(
    ("auth", "method", "load"),
    [
        ((Auth.COURSE, Auth.QUERY), "GET", Load.LARGE),
        ((Auth.COURSE,), "POST", None),
        ((Auth.OPERATOR,), "DELETE", None),
        ((Auth.GRADER,), "GET", None),
        ((Auth.SIGNATURE,), "POST", None),
        ((Auth.ANYBODY,), "GET", None),
    ],
    ids=["read", "submission", "order", "poll", "delivery", "document"],
)
def test_only_reads_of_people_need_a_place(auth: tuple[Auth, ...], method: str, load: Load | None) -> None:
    @takes(*auth, load=Load.LARGE)
    async def handler() -> None: ...

    assert rights_of(handler).load_of(method) is load


def test_polls_of_a_run_share_their_reads() -> None:
    assert rights_of(runs.status).load is Load.SHARED


async def test_polls_beyond_their_share_are_refused_and_submissions_are_not(doors: Doors, course: str) -> None:
    async with doors(http={"large_reads_per_course": 2}) as door:
        client = door.client
        await client.register(course, "mp1", students=[stage()])
        run_id = await client.submit(course, "mp1", students=2)
        path = f"grading_run_status/{course}/{run_id}"
        async with asyncio.TaskGroup() as group:
            polls = [group.create_task(client.get(path, token=token_of(course))) for _ in range(40)]
            submitted = [group.create_task(client.submit(course, "mp1", students=1)) for _ in range(4)]
            small = [group.create_task(client.get("queue/" + course + "/length", token=token_of(course)))]
        answers = [poll.result() for poll in polls]
        refused = [answer for answer in answers if answer.status_code == TOO_MANY]

        assert {answer.status_code for answer in answers} == {200, TOO_MANY}
        assert {answer.headers["retry-after"] for answer in refused} == {"5"}
        assert "too many large reads of this course" in refused[0].text
        assert len({submission.result() for submission in submitted}) == 4
        assert [answer.result().status_code for answer in small] == [200]
        assert (await client.get(path, token=token_of(course))).status_code == 200
