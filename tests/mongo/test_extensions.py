"""Extensions, claims and choices in the store."""

from dataclasses import replace
from datetime import UTC, datetime

from broadway.domain.extension import Extension, ExtensionOrder
from broadway.mongo.store import Store

NOW = datetime(2026, 12, 1, tzinfo=UTC)
ORDER = ExtensionOrder.model_validate(
    {"target": "student", "name": "ada", "due": "2026-12-04T23:59", "add_minutes": 5, "reason": "ill"}
)


async def test_an_extension_is_read_as_it_was_stored_and_never_replaced(store: Store, course: str) -> None:
    first = Extension("000000001", ORDER, NOW, "staff")
    other = replace(first, order=ORDER.model_copy(update={"name": "bob"}))

    assert await store.grades.extensions.add(course, "mp1", first, number=1)
    assert not await store.grades.extensions.add(course, "mp1", other, number=1)

    assert await store.grades.extensions.of_assignment(course, "mp1") == [first]
    assert await store.grades.extensions.of_assignment(course, "mp10") == []


async def test_a_claim_replaces_the_earlier_one_of_the_student(store: Store, course: str) -> None:
    for student, days in (("ada/x", 1), ("bob", 2), ("ada/x", 0)):
        await store.grades.claims.put(course, "mp1", student, days)

    assert await store.grades.claims.of_assignment(course, "mp1") == {"ada/x": 0, "bob": 2}
    assert await store.grades.claims.of_student(course, "mp1", "bob") == 2
    assert await store.grades.claims.of_student(course, "mp2", "bob") == 0


async def test_a_choice_that_is_taken_back_is_none(store: Store, course: str) -> None:
    for student, submission in (("ada", "s1"), ("bob", "s2"), ("ada", None)):
        await store.grades.choices.put(course, "mp1", student, submission)

    assert await store.grades.choices.of_assignment(course, "mp1") == {"bob": "s2"}
    assert await store.grades.choices.of_student(course, "mp1", "ada") is None
