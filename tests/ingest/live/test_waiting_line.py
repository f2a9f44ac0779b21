"""Waiting lines: the order of a course's jobs, and their positions in it."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from broadway.domain.job import JobClass
from broadway.domain.waiting import waiting_key
from broadway.ingest.live.waiting_line import WaitingLine

T0 = datetime(2026, 3, 1, tzinfo=UTC)


def line(*jobs: tuple[str, JobClass, int, int]) -> WaitingLine:
    made = WaitingLine()
    made.add(
        waiting_key(name, job_class, T0 + timedelta(seconds=seconds), index) for name, job_class, seconds, index in jobs
    )
    return made


def test_single_students_go_first_then_earlier_runs_then_the_rosters_order() -> None:
    made = line(
        ("roster-2", JobClass.BULK, 1, 1),
        ("roster-1", JobClass.BULK, 1, 0),
        ("early", JobClass.BULK, 0, 5),
        ("single", JobClass.INTERACTIVE, 9, 0),
    )

    assert [made.position(name) for name in ("single", "early", "roster-1", "roster-2")] == [0, 1, 2, 3]


def test_a_removed_job_lets_the_later_jobs_move_up() -> None:
    made = line(("a", JobClass.BULK, 0, 0), ("b", JobClass.BULK, 0, 1), ("c", JobClass.BULK, 0, 2))
    made.remove("a")
    made.remove("a")
    made.remove("unknown")

    assert (made.position("a"), made.position("b"), made.position("c"), len(made)) == (None, 0, 1, 2)


def test_a_job_that_is_added_twice_is_in_line_once() -> None:
    made = line(("a", JobClass.BULK, 0, 0), ("b", JobClass.BULK, 0, 1))
    made.add([waiting_key("a", JobClass.BULK, T0 + timedelta(seconds=9), 0)])

    assert (made.position("a"), len(made)) == (0, 2)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 5)), max_size=30), st.data())
def test_a_position_is_the_number_of_jobs_before(jobs: list[tuple[bool, int, int]], data: st.DataObject) -> None:
    keys = [(bulk, T0 + timedelta(seconds=seconds), index, f"j{n}") for n, (bulk, seconds, index) in enumerate(jobs)]
    made = WaitingLine()
    made.add(keys)
    gone = data.draw(st.sets(st.sampled_from(keys))) if keys else set()
    for key in gone:
        made.remove(key[-1])

    remaining = sorted(set(keys) - gone)
    assert [made.position(key[-1]) for key in remaining] == list(range(len(remaining)))
