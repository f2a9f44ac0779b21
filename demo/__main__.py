"""The demo: a course with two assignments on this machine, from the files that students hand in to their scores."""

import argparse
import contextlib
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import NoReturn

from rich.console import Console

from demo import autograder, image, pipelines, progress, results, stack, submissions
from demo.client import ClientError, Course
from demo.pipelines import CALCULATOR, WORDS

DIRECTORY = Path(".broadway/demo")
GRADERS, SLOTS = 2, 2
POLL = 1.0  # seconds
LIMIT = 600.0  # seconds for a run
LAST_RUN = DIRECTORY / "last-run"
TROUBLE = (stack.StackError, image.ImageError, ClientError)
INTERRUPTED = 130

stderr = Console(stderr=True, highlight=False, soft_wrap=True)
stdout = Console(highlight=False)
if not stdout.is_terminal:
    stdout.width = 200


def main() -> int:
    """Run the demo, and return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--keep", action="store_true", help="leave Broadway running at the end, until Ctrl-C")
    parser.add_argument("--runtime", default="auto", help="of the graders, as for `broadway up`")
    given = parser.parse_args()
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, _interrupt)
    try:
        return demo(keep=given.keep, runtime=given.runtime)
    except KeyboardInterrupt:
        stderr.print("Interrupted; everything is stopped.")
        return INTERRUPTED
    except TROUBLE as error:
        stderr.print(f"The demo failed: {error}", style="red", markup=False)
        return 1


def demo(*, keep: bool, runtime: str) -> int:
    """Start Broadway, grade both assignments, and stop Broadway; return 0 if all results are the expected ones."""
    say(f"Starting Broadway in {DIRECTORY}: {GRADERS} graders with {SLOTS} slots each ...")
    with stopping(stack.running(DIRECTORY, graders=GRADERS, slots=SLOTS, runtime=runtime)) as site:
        say(f"Broadway answers at {site.api}; RabbitMQ's management UI is at {site.facts.get('management_url')}.")
        say(f"Its graders have the {site.runtime}.")
        try:
            with Course.connect(site.api, site.token) as course:
                are_right = [grade_calculator(course, site), grade_words(course, site)]
        except (ClientError, image.ImageError) as error:
            raise stack.StackError(f"{error}\n{stack.logs(DIRECTORY)}") from error
        if keep:
            wait(site)
        else:
            stdout.print(NEXT_STEPS, markup=False, soft_wrap=True)
    return 0 if all(are_right) else 1


def grade_calculator(course: Course, site: stack.Stack) -> bool:
    """Grade the first assignment: the whole class hands in, then one run grades the latest submissions."""
    say(f"\nThe assignment {CALCULATOR}: an untrusted stage runs each submission, and a judge compares its answers.")
    images = image.ensure(site.docker_host, say)
    finish_earlier(course, site)
    students = list(submissions.expected())
    course.apply(CALCULATOR, pipelines.calculator(images), pipelines.calculator_settings(), students)
    for student in students:
        course.hand_in(CALCULATOR, student, submissions.files(student))
    say(f"{len(students)} students handed in solution.py over the API; the submissions wait for the roster's run.")
    run, begun = course.start(CALCULATOR), time.monotonic()
    LAST_RUN.write_text(run)
    say(f"Run {run} grades the latest submission of each student.")
    follow(course, run, site)
    return conclude(course.rows(run), submissions.expected(), time.monotonic() - begun)


def grade_words(course: Course, site: stack.Stack) -> bool:
    """Grade the second assignment: an autograder of Gradescope, and a run for each submission when it arrives."""
    say(f"\nThe assignment {WORDS}: an autograder that was written for Gradescope, unchanged.")
    if shutil.which("docker") is None:
        say("No docker command is in PATH, which builds its image: this assignment is left out.")
        return True
    name = autograder.ensure(site.docker_host, DIRECTORY, say)
    expected, begun = submissions.expected(submissions.WORDS), time.monotonic()
    course.apply(WORDS, pipelines.words(name), pipelines.words_settings(), list(expected))
    handed_in = [course.hand_in(WORDS, each, submissions.files(each, submissions.WORDS)) for each in expected]
    say(f"{len(handed_in)} students handed in words.py; each submission starts a run of its own.")
    rows: list[results.Row] = []
    for submission in handed_in:
        run = run_of(course, submission.id, site)
        follow(course, run, site, shows=False)
        rows += course.rows(run)
    return conclude(rows, expected, time.monotonic() - begun)


def run_of(course: Course, submission: str, site: stack.Stack) -> str:
    """Return the run of a submission once it has one."""
    begun = time.monotonic()
    while (found := course.submission(submission)).run_id is None:
        if found.is_over or time.monotonic() - begun > LIMIT:
            raise ClientError(f"submission {submission} is not graded: {found.state} {found.reason}")
        site.check()
        time.sleep(POLL)
    return found.run_id


def finish_earlier(course: Course, site: stack.Stack) -> None:
    """Follow an interrupted run, which Broadway continues, to its end, so that it does not slow down the new run."""
    if LAST_RUN.exists():
        run = LAST_RUN.read_text()
        with contextlib.suppress(ClientError):
            if not course.run(run).is_over:
                say(f"Run {run} was interrupted earlier; it is graded to its end first.")
                follow(course, run, site)


def follow(course: Course, run: str, site: stack.Stack, *, shows: bool = True) -> None:
    """Wait until a run is over, and show its progress."""
    begun = time.monotonic()
    with progress.view(stderr, shows=shows) as view:
        while not (found := course.look(run, within=POLL)).is_over:
            view.show(progress.phases(found))
            site.check()
            if time.monotonic() - begun > LIMIT:
                raise ClientError(f"run {run} is not over after {LIMIT:g} s: {found.state}")
        view.show(progress.phases(found))


def conclude(rows: list[results.Row], expected: dict[str, submissions.Expected], seconds: float) -> bool:
    """Show the results of an assignment; return whether they are as expected."""
    matching = results.as_expected(rows, expected)
    stdout.print(results.table(rows, expected))
    style = "green" if matching == len(expected) else "bold red"
    stdout.print(f"{matching} of {len(expected)} as expected, in {seconds:.0f} s.", style=style)
    return matching == len(expected)


_ACCESS = f"BROADWAY_COURSE={pipelines.COURSE} BROADWAY_COURSE_TOKEN=$(cat {DIRECTORY}/course-token)"
_COMMANDS = f"""
  export {_ACCESS} PATH="$PWD/.venv/bin:$PATH"
  broadway run list
      all runs, with the student and the score of each single submission
  broadway run show RUN
      its students with their scores
  broadway job report JOB
      each test of a job; --as-student is the student's view, without hidden tests and the total
  broadway submission list {CALCULATOR}
      the files that were handed in"""
NEXT_STEPS = f"""
Next steps:
  make demo KEEP=1
      the demo once more, left running at its end
  .venv/bin/broadway up --directory {DIRECTORY}
      only the same Broadway again, with these runs; while it runs, in another terminal:{_COMMANDS}
  demo/assignment/README.md, docs/
      the exercise and its grading; Broadway itself"""


def wait(site: stack.Stack) -> None:
    """Leave Broadway running until a signal arrives."""
    commands = _COMMANDS.replace("export ", f"export BROADWAY_SERVER={site.api} ", 1)
    stdout.print(
        f"\nBroadway is still running at {site.api}. In another terminal:{commands}", markup=False, soft_wrap=True
    )
    stdout.print("Press Ctrl-C here to stop it; the next `make demo` keeps its data.", style="bold")
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            site.check()
            time.sleep(POLL)


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


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
