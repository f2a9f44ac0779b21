"""The log of a running job on its page: HTML as it is written, for those who may see it."""

import httpx2
from graded import REPORTED, World, results
from harness import stage
from visitors import Visitor
from writers import Database, Writer

from broadway.domain.job import Outcome

STAGES = [stage("echo", untrusted=True), stage("judge")]


async def heard(visitor: Visitor, path: str, until: str) -> dict[str, str]:
    """Return the data of a stream's events by their names, up to one that has a text."""
    found: dict[str, str] = {}
    async with visitor.http.stream("GET", path) as answer:
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers
        assert answer.headers["cache-control"] == "no-store"
        async for event in httpx2.EventSource(answer):
            if not event.data:  # the pause before a reconnect
                continue
            found[event.event] = found.get(event.event, "") + event.data
            if until in event.data:
                break
    return found


async def test_staff_follow_a_log_with_its_gaps_as_text(world: World, staff: Visitor, database: Database) -> None:
    await world.begin(stages=STAGES)
    writer = await Writer.that_runs(world, "ada", database)
    path = f"/ui/j/{world.jobs['ada']}"
    assert f'data-log="{path}/log/live"' in await staff.text(path)

    async with writer.writes((0, 0, 0, ["\x1b[31m<b>red</b>\x1b[0m"]), (0, 3, 3, ["four"]), (1, 0, 4, ["judged"])):
        found = await heard(staff, f"{path}/log/live", "judged")
    html = found["log"]
    assert '<span class="t-fg1">&lt;b&gt;red&lt;/b&gt;</span>' in html
    assert "2 lines are missing here" in html
    assert (
        html.index("Stage 1") < html.index("missing") < html.index("<span>4</span><code>four") < html.index("Stage 2")
    )
    assert "\x1b" not in html


async def test_a_student_follows_the_own_untrusted_stages_only(
    world: World, staff: Visitor, ada: Visitor, database: Database
) -> None:
    await world.begin(stages=STAGES)
    writer = await Writer.that_runs(world, "ada", database)
    path = f"/ui/j/{world.jobs['ada']}"
    page = await ada.text(path)
    assert f'data-log="{path}/log/live"' in page

    chunks = ((0, 0, 0, ["mine"]), (1, 0, 1, ["the answer"]), (0, 1, 2, ["last"]))
    async with writer.writes(*chunks):
        for visitor, query in ((ada, ""), (staff, "?view=student")):
            found = await heard(visitor, f"{path}/log/live{query}", "last")
            assert "mine" in found["log"]
            assert "answer" not in found["log"]
            assert "Stage 2" not in found["log"]
    assert (await ada.get(f"/ui/j/{world.jobs['bob']}/log/live")).status_code == 404


async def test_a_log_ends_with_its_job(world: World, staff: Visitor) -> None:
    await world.finish("ada", [{"success": True}])
    path = f"/ui/j/{world.jobs['ada']}"
    assert await heard(staff, f"{path}/log/live", "-") == {"end": "-"}
    assert "live-log" not in await staff.text(path)


async def test_a_student_without_a_stage_to_see_is_told_so(world: World, ada: Visitor) -> None:
    await world.start("ada")
    page = await ada.text(f"/ui/j/{world.jobs['ada']}")
    assert "The log of this assignment is for the course staff" in page
    assert "live-log" not in page


async def test_the_log_of_a_cancelled_job_is_on_its_way_and_then_on_the_page(world: World, staff: Visitor) -> None:
    await world.begin(stages=STAGES)
    execution, path = await world.start("ada"), f"/ui/j/{world.jobs['ada']}"
    assert (await world.ask(f"jobs/{world.jobs['ada']}/cancel", "POST")).is_success
    page = await staff.text(path)
    assert "The log is on its way from the grader." in page
    assert f'data-live="{path}/live"' in page

    entries = [{**entry, "streams": [[1, 1]]} for entry in (*results(REPORTED), {"success": False, "data": {}})]
    written = "first\nsecond\n"
    for student in ("ada", "bob"):
        about = execution if student == "ada" else await world.start(student)
        await world.finish(student, entries, execution=about, outcome=Outcome.CANCELLED, stdout=written)
    page = await staff.text(path)
    assert page.index("Stage 1") < page.index("<code>first") < page.index("Stage 2") < page.index("<code>second")
    assert "data-live" not in page
    assert "secret-name" not in page, "a cancelled job has no report"
    assert "data-live" in await staff.text(f"/ui/j/{world.jobs['bob']}"), "a grader cancels no job"


async def test_the_stream_of_a_cancelled_jobs_page_ends_with_its_log(world: World, staff: Visitor) -> None:
    await world.begin(stages=STAGES)
    execution, path = await world.start("ada"), f"/ui/j/{world.jobs['ada']}"
    assert (await world.ask(f"jobs/{world.jobs['ada']}/cancel", "POST")).is_success

    entries = [{"success": False, "data": {}, "streams": [[1, 1]]}]
    told: list[str] = []
    async with staff.http.stream("GET", f"{path}/live") as answer:
        async for event in httpx2.EventSource(answer):
            told += [event.data] if event.event == "parts" else []
            if "The log is on its way" in event.data:
                await world.finish("ada", entries, execution=execution, outcome=Outcome.CANCELLED, stdout="so far\n")
            elif "so far" in event.data:
                break
    assert "The log is on its way" in told[0]
    assert "Stage 1" in told[-1]
