"""Pages in a real browser: both themes, wide and narrow, without script errors, and live without a reload."""

from graded import REPORT, World, results
from harness import stage, token_of
from walking import SIZES, THEMES, Walker

from broadway.domain.job import Outcome
from broadway.domain.originals import Reported
from broadway.domain.report import Report

STUDENTS = [f"student-{number:03}" for number in range(120)]
TESTS = [
    {"key": "adds", "name": {"body": "adds two numbers"}, "number": "1.1", "status": "passed", "score": 2, "max": 2},
    {
        "key": "overflow",
        "name": {"body": "overflow"},
        "number": "3.2",
        "status": "failed",
        "score": 0,
        "max": 2,
        "output": {"body": "\x1b[31mexpected 2147483648\x1b[0m\ngot -2147483648", "format": "ansi"},
        "tags": ["integers"],
    },
    {"key": "leak", "name": {"body": "frees its memory"}, "number": "3.3", "status": "failed", "score": 0, "max": 1},
]
LOG = "".join(f"2026-01-01T00:00:00.{number}Z line \x1b[32m{number}\x1b[0m\n" for number in range(40))


def report(score: int, *, tests: int = 3) -> Reported:
    fields = {"source": "gradescope", "score": score, "max": 20, "log_visibility": "visible", "tests": TESTS[:tests]}
    return Reported(report=Report.model_validate(fields))


async def graded(world: World) -> None:
    """Give a class results of every kind."""
    await world.begin(*STUDENTS)
    for number, student in enumerate(STUDENTS[:60]):
        if number % 10 == 3:
            reason = "main.c:3: undefined reference to main"
            await world.finish(student, [{"success": False}], outcome=Outcome.FAILED, reason=reason)
        elif number % 10 == 7:
            await world.finish(student, [{"success": False}], outcome=Outcome.TIMED_OUT, reason="stage 1 ran 30 s")
        else:
            await world.finish(student, results(report(number % 21)), stdout=LOG)
    await world.start(STUDENTS[60])


async def test_every_page_in_both_themes_wide_and_narrow(world: World, walker: Walker) -> None:
    await graded(world)
    course, run = f"/ui/c/{world.course}", f"/ui/c/{world.course}/r/{world.run}"
    job, failed = (f"/ui/j/{world.jobs[student]}" for student in (STUDENTS[5], STUDENTS[3]))
    own = [("sign-in", "/ui/sign-in"), ("sessions", "/ui/sessions")]
    for_staff = [*own, ("course", course), ("run", run), ("job", job), ("failed", failed), ("queue", f"/ui/j/{world.jobs[STUDENTS[90]]}")]
    for_staff += [("student", f"{course}/s/{STUDENTS[5]}"), ("nothing", "/ui/nothing")]
    for_students = [("home", "/ui/me"), ("hand-in", "/ui/me/a/mp1"), ("result", job.replace(world.jobs[STUDENTS[5]], world.jobs[STUDENTS[0]]))]
    for theme in THEMES:
        for width, height in SIZES:
            for token, pages in ((token_of(world.course), for_staff), (world.tokens[STUDENTS[0]], for_students)):
                page = await walker.window(width=width, height=height, theme=theme)
                await walker.sign_in(page, token)
                for name, address in pages:
                    await page.goto(f"{walker.base}{address}")
                    await walker.check(page)
                    await walker.picture(page, f"{name}-{theme}-{width}")
                    await page.set_viewport_size({"width": 320, "height": height})
                    await walker.check_reflow(page)
                    await page.set_viewport_size({"width": width, "height": height})
                await page.context.close()
    assert "\n".join(each for each in walker.problems if "404 (Not Found)" not in each) == ""
