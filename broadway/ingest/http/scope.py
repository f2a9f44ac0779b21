"""The run, job, hook, delivery, regrade or grader in a request's path, after the request is admitted.

An object of another course gets the same answer as one that does not exist.
"""

from starlette.requests import Request

from broadway.domain.access import Kind
from broadway.domain.grader import Grader
from broadway.domain.job import Job
from broadway.domain.regrade import Regrade
from broadway.domain.run import Run
from broadway.domain.webhook import Delivery, Hook
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.auth import course_of, grader_of, principal_of
from broadway.ingest.http.deps import Deps
from broadway.lifecycle.orders import RUN_NOT_FOUND

NOT_FOUND = 404
JOB_NOT_FOUND = "grading job with the given ID not found"
LOG_NOT_FOUND = "grading job with the given ID not found or has not finished"
HOOK_NOT_FOUND = "this course has no such hook"
REGRADE_NOT_FOUND = "this course has no such regrade"
DELIVERY_NOT_FOUND = "this hook has received no such delivery"


async def own_run(request: Request, deps: Deps, *, missing: int = 400) -> Run:
    """Return the run in the path.

    Raises:
        Refused: ``missing`` if the course has no such run.
    """
    run = await deps.reads.runs.summary(course_of(request).id, request.path_params["run_id"])
    if run is None:
        raise Refused(missing, await missing_text(request, deps, request.path_params["run_id"], RUN_NOT_FOUND, missing))
    return run


async def own_job(request: Request, deps: Deps, *, otherwise: str = JOB_NOT_FOUND, missing: int = 400) -> Job:
    """Return the job in the path. For students there are no jobs of regrades that are not published.

    Raises:
        Refused: ``missing`` with the text ``otherwise`` if the course has no such job.
    """
    job = await deps.reads.jobs.one(course_of(request).id, request.path_params["job_id"])
    is_student = principal_of(request).kind is Kind.STUDENT
    if job is None or (is_student and not await deps.reads.regrades.is_published(job)):
        raise Refused(missing, await missing_text(request, deps, request.path_params["job_id"], otherwise, missing))
    return job


async def missing_text(request: Request, deps: Deps, identity: str, otherwise: str, missing: int = 404) -> str:
    """Return the text about a missing run, job or submission: when it was removed, if that is known.

    v1, whose answers have the status 400, has the original's texts.
    """
    noted = await deps.reads.removed.noted(identity, course_of(request).id) if missing == NOT_FOUND else None
    return noted.text if noted else otherwise


async def own_hook(request: Request, deps: Deps) -> Hook:
    """Return the hook in the path.

    Raises:
        Refused: 404.
    """
    hook = await deps.reads.hooks.one(course_of(request).id, request.path_params["hook"])
    if hook is None:
        raise Refused(404, HOOK_NOT_FOUND)
    return hook


async def own_regrade(request: Request, deps: Deps, *, otherwise: str = REGRADE_NOT_FOUND) -> Regrade:
    """Return the regrade in the path.

    Raises:
        Refused: 404 with the text ``otherwise``.
    """
    regrade = await deps.reads.regrades.one(course_of(request).id, request.path_params["regrade"])
    if regrade is None:
        raise Refused(404, otherwise)
    return regrade


async def own_delivery(request: Request, deps: Deps) -> Delivery:
    """Return the delivery in the path.

    Raises:
        Refused: 404.
    """
    path = request.path_params
    delivery = await deps.reads.hooks.delivery(course_of(request).id, path["hook"], path["delivery"])
    if delivery is None:
        raise Refused(404, DELIVERY_NOT_FOUND)
    return delivery


async def may_read(request: Request, deps: Deps, assignment: str, name: str) -> bool:
    """Return whether the token of an admitted request may read what a student or a group has handed in.

    A student may read the own submissions and those of the group in which the student is a member. Staff may read all.
    """
    principal = principal_of(request)
    if principal.kind is not Kind.STUDENT:
        return True
    course, student = course_of(request).id, principal.student or ""
    return bool(student) and name in await deps.reads.standings.names_of(course, assignment, student)


async def attached_grader(request: Request, deps: Deps) -> Grader:
    """Return the grader in the path, which has registered with a gateway; a grader at the broker has not.

    Raises:
        StoreError: The grader could not be read.
        AdmissionError: Graders without a secret are not admitted to its pool.
        RevokedError: The grader has been revoked.
        Refused: 401, no grader of this id has registered.
    """
    grader = grader_of(request)
    if grader is not None:
        grader.demand_admitted()
    if grader is None or not grader.is_behind_gateway:
        raise Refused(401, "worker not found")
    await deps.admission.demand_pool(grader, grader.pool)
    return grader
