"""Regrades in the store: what is stored is read, and each step is taken once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from secrets import token_hex

from broadway.domain.regrade import Item, Part, PartKind, Regrade, RegradeOrder, Seen
from broadway.domain.regrade_terms import RegradeState, Select
from broadway.mongo.store import Store

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def regrade(**more: object) -> Regrade:
    order = RegradeOrder(Select.CHOSEN, ("s1", "s2"), 5, "a reason")
    made = Regrade(token_hex(12), token_hex(4), "mp1", order, {"env": {"A": "1"}}, "d" * 64, NOW, "ta")
    return replace(made, **more)  # type: ignore[arg-type]


async def test_a_regrade_is_read_as_it_was_stored_after_each_step(store: Store) -> None:
    regrades, made = store.grades.regrades, regrade()
    assert [await regrades.add(made) for _ in range(2)] == [True, False]
    steps = [made, made.plan_as("p", 2, base=1)]
    steps.append(steps[-1].finish(NOW))
    steps.append(steps[-1].begin_publishing(NOW))
    steps.append(steps[-1].publish_as(2, NOW, by="ta", note="n"))
    for step in steps[1:]:
        assert [await regrades.move(step) for _ in range(2)] == [True, False], "each step is taken once"
        assert await regrades.get(made.course, made.id) == step
    assert await regrades.get("another", made.id) is None


async def test_parts_are_read_by_plan_and_leftovers_are_removed(store: Store) -> None:
    running = regrade(plans=("p", "q"))
    parts = [
        Part(running.id, plan, number, kind, (Item("s1", {"A": "1"}, "j", "e"),), (Seen("ada", "s1", ("s1",), True),))
        for plan, number, kind in (("p", 0, PartKind.NEW), ("p", 1, PartKind.CONTROL), ("q", 0, PartKind.NEW))
    ]
    left = replace(parts[0], plan="left")
    await store.grades.regrades.put_parts([left, *reversed(parts)])
    await store.grades.regrades.put_parts(parts)
    assert await store.grades.regrades.parts(running) == parts
    await store.grades.regrades.tidy(running)
    assert await store.grades.regrades.parts(replace(running, plans=("left",))) == []
    assert await store.grades.regrades.parts(running) == parts


async def test_a_process_finds_regrades_with_something_to_do(store: Store) -> None:
    at = datetime.now(UTC)
    made = {
        name: regrade(state=state, **more)
        for name, state, more in (
            ("draft", RegradeState.DRAFT, {}),
            ("ready", RegradeState.READY, {}),
            ("publishing", RegradeState.READY, {"publishing_at": at}),
            ("interrupted", RegradeState.READY, {"publishing_at": at - timedelta(minutes=2)}),
            ("discarded", RegradeState.DISCARDED, {"clean_at": at}),
            ("to be cleaned", RegradeState.DISCARDED, {"clean_at": at + timedelta(minutes=1)}),
        )
    }
    for each in made.values():
        assert await store.grades.regrades.add(each)
    found, after = dict[str, Regrade](), ""
    while page := await store.grades.regrades.active(after=after, limit=1):
        after = page[0].id
        found[after] = page[0]
    active = {name: found[each.id] for name, each in made.items() if each.id in found}
    assert set(active) == set(made) - {"ready"}
    assert {name for name, each in active.items() if each.is_due(at)} == {"draft", "interrupted", "discarded"}
    counts = {name: await store.grades.regrades.count_active(each.course) for name, each in made.items()}
    assert counts == {name: int(name in active) for name in made}  # each is of a course of its own


async def test_a_callback_is_due_until_it_is_sent(store: Store) -> None:
    made = regrade(plans=("p",), state=RegradeState.RUNNING).finish(NOW)
    assert await store.grades.regrades.add(made)
    (due,) = [each for each in await store.grades.regrades.to_announce(limit=1000) if each.id == made.id]
    assert (due.ready_at, due.course) == (NOW, made.course)
    await store.grades.regrades.announced(replace(due, announce_at=NOW + timedelta(1)))
    assert made.id in {each.id for each in await store.grades.regrades.to_announce(limit=1000)}, "it is ready once more"
    await store.grades.regrades.announced(due)
    assert made.id not in {each.id for each in await store.grades.regrades.to_announce(limit=1000)}
