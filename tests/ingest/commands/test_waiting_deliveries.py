"""The undecided deliveries of one process: bounds, and the order in which they are decided."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from broadway.domain.webhook import Delivery, DeliveryState, Push
from broadway.ingest.commands.waiting_deliveries import WaitingDeliveries

NOW = datetime(2026, 9, 1, tzinfo=UTC)


def of(course: str, student: str, number: int = 1) -> Delivery:
    name = f"{course}-{student}-{number}"
    push = Push(name, repository=f"cs/{student}")
    state = DeliveryState.RECEIVED
    return Delivery(name, course, "git", "mp1", name, NOW, state, push, due_at=NOW + timedelta(seconds=number))


def holding(*deliveries: Delivery, most: int = 100, most_of_course: int = 50) -> WaitingDeliveries:
    waiting = WaitingDeliveries(most=most, most_of_course=most_of_course)
    for each in deliveries:
        waiting.add(each)
    return waiting


def test_courses_take_turns() -> None:
    waiting = holding(*(of("a", f"s{number}") for number in range(5)), of("b", "s"))
    assert [each.course for each in waiting.take(3)] == ["a", "b", "a"]
    assert len(waiting) == 3


def test_deliveries_of_a_student_are_taken_one_after_another() -> None:
    first, second, other = of("a", "ada"), of("a", "ada", 2), of("a", "bob")
    waiting = holding(first, second, other)
    assert waiting.take(9) == [first, other]
    assert waiting.take(9) == []
    waiting.release(first)
    assert waiting.take(9) == [second]


def test_a_course_whose_students_are_all_taken_does_not_hold_up_another_one() -> None:
    waiting = holding(of("a", "ada"), of("a", "ada", 2), of("a", "ada", 3), *(of("b", f"s{n}") for n in range(3)))
    assert [each.course for each in waiting.take(9)] == ["a", "b", "b", "b"]


def test_a_course_has_room_for_some_deliveries_and_leaves_room_for_others() -> None:
    waiting = holding(of("a", "ada"), of("a", "bob"), most=3, most_of_course=2)
    assert (waiting.room("a"), waiting.room("b"), waiting.full_courses()) == (0, 1, ["a"])
    waiting.add(of("b", "eve"))
    assert waiting.room("b") == 0
    waiting.take(1)
    assert (waiting.room("a"), waiting.full_courses()) == (1, [])


def test_a_renewed_delivery_keeps_its_place() -> None:
    first, second = of("a", "ada"), of("a", "bob", 2)
    waiting = holding(first, second)
    assert waiting.due(NOW + timedelta(seconds=1)) == [first]
    renewed = replace(first, due_at=NOW + timedelta(seconds=60))
    waiting.replace(renewed)
    assert waiting.due(NOW + timedelta(seconds=9)) == [second]
    assert waiting.take(1) == [renewed]
    waiting.replace(first)
    assert len(waiting) == 1
