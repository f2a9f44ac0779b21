"""The demo: a class of 30, graded on this machine, from the submission of a run to its results."""

import contextlib
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from rich.console import Console

from demo import course_server, image, pipelines, progress, results, stack, submissions
from demo.client import Broadway, BroadwayError

DIRECTORY = Path(".broadway/demo")
GRADERS, SLOTS = 2, 2
POLL = 0.5  # seconds
LIMIT = 600.0  # seconds for a run
FINISHED, FAILED = ENDED = "grading run is complete", "grading run failed"
LAST_RUN = DIRECTORY / "last-run"
TROUBLE = (stack.StackError, image.ImageError, course_server.CourseServerError, BroadwayError)
INTERRUPTED = 130

stderr = Console(stderr=True, highlight=False, soft_wrap=True)
stdout = Console(highlight=False)
if not stdout.is_terminal:
    stdout.width = 200


def main() -> int:
    """Run the demo, and return the exit status."""
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, _interrupt)
    try:
        return demo()
    except KeyboardInterrupt:
        stderr.print("Interrupted; everything is stopped.")
        return INTERRUPTED
    except TROUBLE as error:
        stderr.print(f"The demo failed: {error}", style="red", markup=False)
        return 1


def demo() -> int:
    """Start Broadway, grade the class, and stop Broadway; return 0 if every student has the expected outcome."""
    with contextlib.ExitStack() as outlasting, contextlib.ExitStack() as running:
        say(f"Starting Broadway in {DIRECTORY}: {GRADERS} graders with {SLOTS} slots each ...")
        site = running.enter_context(stopping(stack.running(DIRECTORY, graders=GRADERS, slots=SLOTS)))
        say(f"Broadway answers at {site.api}; RabbitMQ's management UI is at {site.facts.get('management_url')}.")
        try:
            name = image.ensure(site.docker_host, say)
            broadway = outlasting.enter_context(Broadway(site.api, site.token))
            server = course_server.CourseServer(broadway.students, DIRECTORY / "course")
            url = outlasting.enter_context(serve(server, site))  # until the graders have finished their jobs
            broadway.register(pipelines.config(name, url))
            return grade_class(broadway, server, site)
        except (BroadwayError, course_server.CourseServerError, image.ImageError) as error:
            raise stack.StackError(f"{error}\n{stack.logs(DIRECTORY)}") from error


def serve(server: course_server.CourseServer, site: stack.Stack) -> contextlib.AbstractContextManager[str]:
    """Serve at an address that the engine's containers can reach; the context's value is the URL."""
    address = course_server.gateway(site.docker_host)
    say(f"The course's own server, with submissions and tests, is at {address}.")
    return course_server.serve(server.app(), course_server.listen(address, DIRECTORY / "course-port"))


def grade_class(broadway: Broadway, server: course_server.CourseServer, site: stack.Stack) -> int:
    """Submit a run, follow it, and compare its results with the expected ones."""
    students = list(submissions.expected())
    finish_earlier(broadway, site)
    run = broadway.submit(pipelines.run(students))
    LAST_RUN.write_text(run)
    say(f"Grading run {run}: pre-processing, {len(students)} students, post-processing.")
    begun = time.monotonic()
    status = follow(broadway, run, site)
    if status["state"] == FAILED:
        raise BroadwayError(f"run {run} failed:\n{_log_ends(broadway, status)}")
    return conclude(broadway.students(run), run, time.monotonic() - begun, server.report(run))


def finish_earlier(broadway: Broadway, site: stack.Stack) -> None:
    """Follow an interrupted run, which Broadway continues, to its end, so that it does not slow down the new run."""
    if LAST_RUN.exists():
        run = LAST_RUN.read_text()
        with contextlib.suppress(BroadwayError):
            if broadway.status(run)["state"] not in ENDED:
                say(f"Run {run} was interrupted earlier; it is graded to its end first.")
                follow(broadway, run, site)


def follow(broadway: Broadway, run: str, site: stack.Stack) -> dict[str, Any]:
    """Show a run's progress until it is over; return its last status."""
    begun = time.monotonic()
    with progress.view(stderr, students=len(submissions.expected())) as view:
        while (status := broadway.status(run))["state"] not in ENDED:
            view.show(progress.phases(status))
            site.check()
            if time.monotonic() - begun > LIMIT:
                raise BroadwayError(f"run {run} is not over after {LIMIT:g} s: {status['state']}")
            time.sleep(POLL)
        view.show(progress.phases(status))
    return status


def conclude(rows: list[results.Row], run: str, seconds: float, report: Path) -> int:
    """Show the results of the class and the next steps; return the exit status."""
    expected = submissions.expected()
    matching = results.as_expected(rows, expected)
    stdout.print(results.table(rows, expected))
    style = "green" if matching == len(expected) else "bold red"
    stdout.print(f"{matching} of {len(expected)} as expected, in {seconds:.0f} s.", style=style)
    stdout.print(
        "\nNext steps:\n"
        f"  {report}\n      the class report, made by the post-processing\n"
        f"  .venv/bin/broadway up --directory {DIRECTORY}\n"
        "      the same Broadway again, with this run; it prints the addresses of its API and of RabbitMQ's UI\n"
        f"  BROADWAY_COURSE={pipelines.COURSE} BROADWAY_COURSE_TOKEN=$(cat {DIRECTORY}/course-token)"
        f" .venv/bin/broadway run show {run}\n      this run, while that Broadway runs\n"
        "  demo/assignment/README.md, docs/\n      the exercise and its grading; Broadway itself",
        markup=False,
        soft_wrap=True,
    )
    return 0 if matching == len(expected) and report.exists() else 1


@contextlib.contextmanager
def stopping(site: contextlib.AbstractContextManager[stack.Stack]) -> Iterator[stack.Stack]:
    """Announce the stop of Broadway, which may take some seconds."""
    with site as running:
        try:
            yield running
        finally:
            say("Stopping Broadway ...")


def say(text: str) -> None:
    """Print a line about the progress."""
    stderr.print(text, markup=False)


def _log_ends(broadway: Broadway, status: dict[str, Any]) -> str:
    """Return the ends of the logs of pre- and post-processing."""
    jobs = [job for key in ("pre_processing_job_state", "post_processing_job_state") for job in status[key] or {}]
    return "\n".join(broadway.log(job)[-2000:] for job in jobs)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
