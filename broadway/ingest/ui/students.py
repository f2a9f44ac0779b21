"""`/ui/me` and `/ui/c/…/s/…`: a student's assignments and submissions, and handing in files."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.access import Kind
from broadway.domain.job import Job
from broadway.domain.status_line import StatusLine, Tone, facts_of, of_points, status_of
from broadway.domain.visibility import Role, Standing, seen_points
from broadway.domain.webhook import DeliveryState
from broadway.domain.work import graded_attempt
from broadway.ingest.commands.upload import Upload
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth, Load, nothing, takes
from broadway.ingest.http.uploads import uploaded
from broadway.ingest.reads.grades import BookedEntry
from broadway.ingest.reads.handed_in import HandedInWork
from broadway.ingest.reads.standings import StudentStanding
from broadway.ingest.ui.endpoint import NOTHING_HERE, redirected, visitor
from broadway.ingest.ui.templating import page

ASSIGNMENTS = 50  # on one page
SUBMISSIONS = 50  # on one page


@dataclass(frozen=True, slots=True)
class Place:
    """The student whose work is shown, the addresses of the pages, and whether staff look at them."""

    course: str
    student: str
    base: str
    is_staff: bool


def place_of(request: Request) -> Place:
    """Return the student of the session, or the one in the path, whom staff look at.

    Raises:
        Refused: 404.
    """
    session = visitor(request)
    if session.kind is Kind.STUDENT:
        if len(session.courses) != 1 or not session.student:
            raise Refused(404, NOTHING_HERE)
        return Place(session.courses[0], session.student, "/ui/me", is_staff=False)
    course, student = course_of(request).id, request.path_params["student"]
    return Place(course, student, f"/ui/c/{course}/s/{quote(student, safe='')}", is_staff=True)


@dataclass(frozen=True, slots=True)
class Shown:
    """A standing, and the state by which its student sees reports."""

    standing: StudentStanding
    state: Standing
    of_class: Sequence[Job]
    booked: BookedEntry | None = None

    def status(self, work: HandedInWork) -> StatusLine:
        """Return the status of a submission for its student."""
        if work.job is not None:
            return self.status_of_job(work.job)
        if work.delivery is None:
            return StatusLine(Tone.WAITING, "handed in", "It is graded with those of the whole class.")
        if work.is_taken:
            is_superseded = work.delivery.state is DeliveryState.SUPERSEDED
            return StatusLine(Tone.NEUTRAL, "superseded") if is_superseded else StatusLine(Tone.WAITING, "queued")
        return StatusLine(Tone.STUDENT, "not graded", work.delivery.reason)

    def status_of_job(self, job: Job) -> StatusLine:
        """Return the status of a job for its student."""
        return status_of(facts_of(job), Role.STUDENT)

    def score(self, job: Job | None) -> str:
        """Return the points of a job, as far as its student may see them."""
        attempt = graded_attempt(job) if job else None
        marks = attempt.marks if attempt else None
        return of_points(*seen_points(marks, Role.STUDENT, self.state)) if marks else ""


async def _shown(deps: Deps, place: Place, standing: StudentStanding) -> Shown:
    state = await deps.reads.standings.of_report(place.course, standing.assignment, place.student)
    of_class = await deps.reads.class_jobs.of_student(place.course, standing.assignment, standing.member.names)
    booked = await deps.reads.grades.booked_entry(place.course, standing.assignment, place.student)
    return Shown(standing, state, of_class, booked if booked and booked.entry else None)


@takes(Auth.STUDENT)
async def home(request: Request, deps: Deps) -> Response:
    """Show a student's assignments."""
    return await _home(request, deps, place_of(request))


@takes(Auth.COURSE, load=Load.LARGE)
async def home_for_staff(request: Request, deps: Deps) -> Response:
    """Show a student's assignments as the student sees them."""
    return await _home(request, deps, place_of(request))


async def _home(request: Request, deps: Deps, place: Place) -> Response:
    after = request.query_params.get("after")
    found = await deps.reads.standings.of_course(place.course, place.student, after=after, limit=ASSIGNMENTS)
    assignments = [await _shown(deps, place, each) for each in found.items]
    return page(request, "me.html", place=place, assignments=assignments, next=found.next)


@takes(Auth.STUDENT)
async def assignment(request: Request, deps: Deps) -> Response:
    """Show an assignment with the form for handing in and the submissions."""
    return await _assignment(request, deps, place_of(request))


@takes(Auth.COURSE)
async def assignment_for_staff(request: Request, deps: Deps) -> Response:
    """Show an assignment as one of its students sees it."""
    return await _assignment(request, deps, place_of(request))


async def _own(request: Request, deps: Deps, place: Place) -> StudentStanding:
    found = await deps.reads.standings.of_student(place.course, request.path_params["assignment"], place.student)
    if found is None:
        raise Refused(404, NOTHING_HERE)
    return found


async def _assignment(request: Request, deps: Deps, place: Place) -> Response:
    own = await _own(request, deps, place)
    shown = await _shown(deps, place, own)
    return page(request, "hand_in.html", place=place, own=own, shown=shown, work=own.found[:SUBMISSIONS])


@takes(Auth.STUDENT, before=nothing, operation="ui.handIn")
async def hand_in(request: Request, deps: Deps) -> Response:
    """Hand in files, and go on to the page with their result."""
    place = place_of(request)
    own = await _own(request, deps, place)
    rules, directory = own.settings.files, deps.settings.http.spool_dir
    student = await deps.reads.standings.submitter_of(place.course, own.assignment, place.student)
    by, trace = visitor(request).name, request.state.traceparent
    async with uploaded(request, directory, limit=rules.max_bytes, files=rules.max_files) as files:
        handed_in = await deps.uploads.hand_in(
            Upload(place.course, own.assignment, student, by, files, key=None, traceparent=trace)
        )
    delivery = handed_in.delivery
    job = await deps.reads.submissions.job(delivery) if delivery else None
    return redirected(f"/ui/j/{job.id}" if job else f"{place.base}/a/{own.assignment}")
