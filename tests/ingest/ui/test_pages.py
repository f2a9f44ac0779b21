"""Pages over HTTP, without a browser: contents, and the parts that a student may see."""

import asyncio
import contextlib
import re
from collections.abc import Callable
from secrets import token_hex
from urllib.parse import quote

from graded import REPORT, REPORTED, World, results
from harness import Client, until
from visitors import Visitor

from broadway.domain.access import SecretPrefix, new_secret
from broadway.domain.grader import GraderMode
from broadway.domain.job import Outcome
from broadway.domain.originals import Reported
from broadway.ingest.http.shares import RUNNING
from broadway.messages.http import IDENTITY_HEADER

Visitors = Callable[[str], contextlib.AbstractAsyncContextManager[Visitor]]


async def test_staff_go_from_the_course_over_its_run_to_a_result(world: World, staff: Visitor) -> None:
    await world.finish("ada", results(REPORTED), stdout="2026-01-01T00:00:00.0Z hello\n")

    home = await staff.get("/ui")
    assert (home.status_code, home.headers["location"]) == (303, f"/ui/c/{world.course}")
    course = await staff.text(f"/ui/c/{world.course}")
    assert f'href="/ui/c/{world.course}/r/{world.run}"' in course
    run = await staff.text(f"/ui/c/{world.course}/r/{world.run}")
    assert f'href="/ui/j/{world.jobs["ada"]}"' in run
    assert "1.5/3" in run
    job = await staff.text(f"/ui/j/{world.jobs['ada']}")
    assert "1.5 of 3" in job
    assert "secret-name" in job
    assert "hello" in job
    assert re.search(r'id="L1"', job)


async def test_a_student_sees_the_own_result_without_what_is_hidden(world: World, staff: Visitor, ada: Visitor) -> None:
    await world.finish("ada", results(REPORTED))

    own = await ada.text(f"/ui/j/{world.jobs['ada']}")
    assert "secret-name" not in own
    assert "1.5" not in own
    assert "hidden" not in own.replace("aria-hidden", "").replace(" hidden>", "")
    as_staff_see_it = await staff.text(f"/ui/j/{world.jobs['ada']}?view=student")
    part = re.compile(r'<section aria-labelledby="tests">.*?</section>', re.DOTALL)
    assert _without_view(part.findall(own)) == _without_view(part.findall(as_staff_see_it))
    assert "secret-name" not in as_staff_see_it
    assert (await ada.get(f"/ui/j/{world.jobs['bob']}")).status_code == 404


def _without_view(found: list[str]) -> list[str]:
    return [text.replace("?view=student", "").replace("&amp;view=student", "") for text in found]


async def test_the_filters_of_a_run_are_its_address(world: World, staff: Visitor) -> None:
    await world.finish("ada", results(REPORTED))
    await world.finish("bob", [{"success": False}], outcome=Outcome.FAILED, reason="undefined reference to main")
    run = f"/ui/c/{world.course}/r/{world.run}"

    def shown(text: str) -> set[str]:
        return {name for name, job in world.jobs.items() if f'id="j-{job}"' in text}

    assert shown(await staff.text(run)) == {"ada", "bob"}
    assert shown(await staff.text(f"{run}?find=AD")) == {"ada"}
    assert shown(await staff.text(f"{run}?outcome=not+gradable")) == {"bob"}
    assert shown(await staff.text(f"{run}?score=1.5")) == {"ada"}
    assert shown(await staff.text(f"{run}?score=2")) == set()
    assert shown(await staff.text(f"{run}?test=b")) == {"ada"}
    assert shown(await staff.text(f"{run}?cause=undefined+reference+to+main")) == {"bob"}
    assert shown(await staff.text(f"{run}?sort=nonsense&page=-7&score=x")) == {"ada", "bob"}
    course = await staff.text(f"/ui/c/{world.course}")
    assert "undefined reference to main" in course


async def test_an_upload_on_the_page_leads_to_its_result(world: World, ada: Visitor, staff: Visitor) -> None:
    page = await ada.text("/ui/me")
    assert 'href="/ui/me/a/mp1"' in page
    form = {"files": ("main.c", b"int main(void) { return 0; }\n")}
    answer = await ada.http.post("/ui/me/a/mp1", files=form, headers={"Sec-Fetch-Site": "same-origin"})

    assert answer.status_code == 303, answer.text
    result = answer.headers["location"]
    assert re.fullmatch("/ui/j/[0-9a-f]{24}", result)
    assert "main.c" in await ada.text(result)
    assert "int main" in (await ada.get(f"{result}/files/main.c")).text
    assert result in await ada.text("/ui/me/a/mp1")
    assert result in await staff.text(f"/ui/c/{world.course}/s/ada")
    listed = await staff.text(f"/ui/c/{world.course}")
    assert "<bdi>ada</bdi>" in listed
    refused = await ada.http.post(
        "/ui/me/a/mp1", files={"files": ("../x", b"")}, headers={"Sec-Fetch-Site": "same-origin"}
    )
    assert refused.status_code == 422
    assert "is not a name inside the submission" in refused.text


async def test_a_student_finds_the_results_of_runs_for_the_class(world: World, ada: Visitor) -> None:
    await world.finish("ada", results(REPORTED))
    link = f'href="/ui/j/{world.jobs["ada"]}"'
    for path in ("/ui/me", "/ui/me/a/mp1"):
        page = await ada.text(path)
        assert link in page
        assert "graded" in page
        assert "1.5" not in page  # a test is hidden
        assert world.jobs["bob"] not in page
    await world.ask("assignments/mp1/settings", "PUT", json={"points": 3})
    open_ = REPORT.model_copy(update={"tests": REPORT.tests[:1]})
    await world.ask(f"jobs/{world.jobs['ada']}/rerun", "POST", json={})
    await world.finish("ada", results(Reported(report=open_)))
    assert "1.5 of 3" in await ada.text("/ui/me")


async def test_orders_of_staff_are_in_the_audit_log(world: World, staff: Visitor) -> None:
    await world.finish("ada", results(REPORTED))
    job = f"/ui/j/{world.jobs['ada']}"

    assert (await staff.post(f"{job}/rerun", {"config": "kept"})).status_code == 303
    assert "queued" in await staff.text(job)
    run = f"/ui/c/{world.course}/r/{world.run}"
    assert (await staff.post(f"{run}/cancel")).status_code == 422
    assert (await staff.post(f"{run}/cancel", {"sure": "yes"})).status_code == 303

    async def are_recorded() -> bool:
        audit = world.opened.store.audit
        page = await audit.latest(course=world.course, name=None, operation=None, before=None, limit=50)
        return {"ui.rerunJob", "ui.cancelRun"} <= {record.operation for record in page}

    await until(are_recorded)


async def test_attempts_have_addresses(world: World, staff: Visitor) -> None:
    await world.finish("ada", results(REPORTED))
    job = f"/ui/j/{world.jobs['ada']}"
    await staff.post(f"{job}/rerun")
    better = REPORT.model_copy(update={"score": REPORT.max})
    await world.finish("ada", results(Reported(report=better)))

    assert "3 of 3" in await staff.text(job)
    assert "1.5 of 3" in await staff.text(f"{job}?attempt=1")
    for wrong in ("0", "3", "x", "1e9", "99999999999"):
        assert (await staff.get(f"{job}?attempt={wrong}")).status_code == 404


async def test_many_visitors_at_once_are_all_answered(world: World, staff: Visitor, ada: Visitor) -> None:
    """The reads of a run's table have their turns among large reads, so no visitor may hold a turn meanwhile."""
    run = f"/ui/c/{world.course}/r/{world.run}"

    async def first_bytes(path: str) -> int:
        async with staff.http.stream("GET", path) as answer:
            async for _ in answer.aiter_bytes():
                break
            return answer.status_code

    visits = RUNNING // 4  # of each page: half more visitors than turns
    for_staff = [run, f"/ui/c/{world.course}", f"{run}?sort=score"] * visits
    for_students = ["/ui/me", "/ui/me/a/mp1", f"/ui/j/{world.jobs['ada']}"] * visits
    answers = await asyncio.gather(
        *(staff.get(path) for path in for_staff),
        *(ada.get(path) for path in for_students),
    )
    assert {answer.status_code for answer in answers} == {200}
    assert set(await asyncio.gather(*(first_bytes(f"{run}/live") for _ in range(RUNNING + 8)))) == {200}


async def test_operators_see_graders_and_give_them_orders(client: Client, visit: Visitors, world: World) -> None:
    name = f"g-{token_hex(4)}"
    joined = await client.http.post(
        f"/api/v2/graders/{name}",
        json={"hostname": "<b>host</b>"},
        headers={"Authorization": "Bearer cluster-token", IDENTITY_HEADER: new_secret(SecretPrefix.GRADER)},
    )
    assert joined.status_code == 200, joined.text
    async with visit("operator-token") as operator:
        page = await operator.text("/ui/ops")
        assert "&lt;b&gt;host&lt;/b&gt;" in page
        assert f"/ui/ops/graders/{name}/pause" in page
        assert (await operator.post(f"/ui/ops/graders/{name}/pause")).status_code == 303
        assert f"/ui/ops/graders/{name}/resume" in await operator.text("/ui/ops")
        assert (await operator.post(f"/ui/ops/graders/{name}/slots", {"slots": "7"})).status_code == 303
        for wrong in ("0", "-1", "x", "9999", ""):
            assert (await operator.post(f"/ui/ops/graders/{name}/slots", {"slots": wrong})).status_code == 422
        assert (await operator.post(f"/ui/ops/graders/{name}/explode")).status_code == 404
        stored = await world.opened.store.graders.get(name)
        assert stored is not None
        assert (stored.order.mode, stored.order.slots) == (GraderMode.PAUSED, 7)


async def test_operators_discard_a_dead_letter_after_a_second_question(visit: Visitors, world: World) -> None:
    letters, subject = world.opened.store.dead_letters, f"subject-{token_hex(4)}"
    await letters.put(message_id=subject, subject=subject, queue="q", reason="<i>why</i>", body=b"secret body")
    async with visit("operator-token") as operator:
        page = await operator.text("/ui/ops")
        assert "&lt;i&gt;why&lt;/i&gt;" in page
        assert re.search(r"<details[^>]*><summary>Body.*secret body", page, re.DOTALL), "closed until it is opened"
        letter = next(each for each in await letters.latest(50) if each.subject == subject)
        path = f"/ui/ops/dead/{quote(letter.id, safe='')}"
        assert path in page
        assert (await operator.post(path)).status_code == 422
        assert (await operator.post(path, {"sure": "yes"})).status_code == 303
        assert subject not in await operator.text("/ui/ops")
        assert (await operator.post(path, {"sure": "yes"})).status_code == 404


async def test_the_head_of_a_stream_is_no_stream(world: World, staff: Visitor) -> None:
    for path in (f"/ui/j/{world.jobs['ada']}/live", f"/ui/c/{world.course}/r/{world.run}/live"):
        answer = await staff.http.head(path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream")
