"""Answers to exceptions, in the envelope of the request's API version."""

import json
import math
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from broadway.domain.callback_addresses import EndpointError
from broadway.domain.files import FileRefusedError
from broadway.domain.grader import RevokedError
from broadway.domain.json_bodies import InvalidBodyError
from broadway.domain.pages import CursorError
from broadway.domain.regrade import InfraErrorsError, RegradeStateError
from broadway.domain.sheets.entries import SheetError
from broadway.ingest.commands.admission import AdmissionError, CredentialError
from broadway.ingest.commands.artifacts import ArtifactsRefusedError
from broadway.ingest.commands.backlogs import RETRY_AFTER as BACKLOG_RETRY_AFTER
from broadway.ingest.commands.backlogs import BacklogFullError
from broadway.ingest.commands.callbacks import CallbackStateError
from broadway.ingest.commands.claims import ClaimRefusedError, NoPlaceError
from broadway.ingest.commands.courses import CourseExistsError
from broadway.ingest.commands.extensions import ExtensionsChangedError, NoExtensionError, UnknownTargetError
from broadway.ingest.commands.grade_adjustments import NoAdjustmentError
from broadway.ingest.commands.grade_imports import ImportRefusedError
from broadway.ingest.commands.graders import BrokerUsersUnavailableError, GraderOrderError, NoGraderError
from broadway.ingest.commands.grades import BookMovedError, NoVersionError
from broadway.ingest.commands.join_tokens import NoTokenError
from broadway.ingest.commands.limits import InvalidEnvError, NoConfigError, QuotaError, RejectedError
from broadway.ingest.commands.regrade import RegradeMovedError
from broadway.ingest.commands.regrade_plan import NothingToRegradeError
from broadway.ingest.commands.retention import PassOrderedError
from broadway.ingest.commands.retry_letters import NoJobsError, NoLetterError
from broadway.ingest.commands.start import NoAssignmentError, NotInRosterError
from broadway.ingest.commands.submit import KeyReusedError
from broadway.ingest.commands.tokens import NoStudentError, TokenLimitError
from broadway.ingest.commands.upload import NotTakenError, UploadKeyReusedError
from broadway.ingest.http.admission import LimitError
from broadway.ingest.http.answers import Refused, failure, invalid_body, problem, refused
from broadway.ingest.http.bodies import BodyTooLargeError, BodyTooSlowError, UnsupportedBodyError
from broadway.ingest.http.spool import SpoolError
from broadway.ingest.reads.grade_sheets import NoGradesError
from broadway.ingest.unpacking.unpack import UnpackingUnavailableError
from broadway.lifecycle.orders import NoRunError, OrderError
from broadway.ports import StoreError, UnstorableError
from broadway.runtime.clock import now

log = structlog.get_logger(__name__)

RETRY_AFTER = "5"  # seconds, in answers while the store is unavailable


_REFUSALS: Mapping[type[Exception], int] = {
    NothingToRegradeError: 422,
    RegradeStateError: 409,
    RegradeMovedError: 409,
    InfraErrorsError: 409,
    RejectedError: 400,
    CursorError: 400,
    KeyReusedError: 422,
    NotInRosterError: 422,
    NoAssignmentError: 404,
    NoRunError: 404,
    OrderError: 409,
    NoConfigError: 409,
    NoGraderError: 404,
    NoLetterError: 404,
    NoJobsError: 409,
    CredentialError: 401,
    AdmissionError: 403,
    RevokedError: 403,
    GraderOrderError: 409,
    NoStudentError: 422,
    TokenLimitError: 409,
    CourseExistsError: 409,
    NoTokenError: 404,
    FileRefusedError: 422,
    UploadKeyReusedError: 422,
    NotTakenError: 409,
    UnknownTargetError: 422,
    NoExtensionError: 404,
    ExtensionsChangedError: 409,
    NoPlaceError: 404,
    ClaimRefusedError: 422,
    ArtifactsRefusedError: 422,
    BookMovedError: 409,
    NoVersionError: 404,
    NoAdjustmentError: 404,
    SheetError: 422,
    NoGradesError: 404,
    ImportRefusedError: 409,
    EndpointError: 400,
    CallbackStateError: 409,
    PassOrderedError: 409,
}
_UNCHANGED = (
    *_REFUSALS,
    Refused,
    InvalidBodyError,
    BodyTooLargeError,
    BodyTooSlowError,
    UnstorableError,
    InvalidEnvError,
    HTTPException,
    ClientDisconnect,
)


def may_have_changed(error: Exception) -> bool:
    """Return whether a request that ended with an error may have changed something: refusals come before changes."""
    return not isinstance(error, _UNCHANGED)


def exception_handlers() -> Mapping[Any, Any]:
    """Return the handlers of exceptions by type, as Starlette takes them."""
    return {
        Refused: _on_refused,
        InvalidBodyError: _on_invalid_body,
        BodyTooLargeError: _on_too_large,
        BodyTooSlowError: _on_too_slow,
        UnsupportedBodyError: _on_unsupported,
        UnstorableError: _on_unstorable,
        InvalidEnvError: _on_invalid_env,
        BacklogFullError: _on_full_backlog,
        QuotaError: _on_quota,
        **{error: _refuse(status) for error, status in _REFUSALS.items()},
        NotTakenError: _on_not_taken,
        BrokerUsersUnavailableError: _refuse(503),
        LimitError: limited,
        SpoolError: _on_spool_unavailable,
        UnpackingUnavailableError: _on_spool_unavailable,
        StoreError: _on_store_unavailable,
        HTTPException: _on_http_exception,
        ClientDisconnect: _on_disconnect,
        Exception: _on_exception,
    }


def _is_v2(request: Request) -> bool:
    """Return whether an answer is a problem: in v2, and for pages, which show it."""
    return request.url.path.startswith(("/api/v2/", "/ui", "/s/"))


async def answer_to(request: Request, error: Exception) -> Response:
    """Return the answer to an error, as the application would give it."""
    handlers = exception_handlers()
    handler = next(handlers[each] for each in type(error).__mro__ if each in handlers)
    found: Response = handler(request, error)
    return found


def detail_of(answer: Response) -> str:
    """Return the words of an answer to an error, a line for each problem; empty if it has none."""
    return str(json.loads(bytes(answer.body)).get("detail", ""))


def failed(request: Request, status: int, headers: Mapping[str, str] | None = None) -> Response:
    """Answer a request that no handler could answer, in the envelope of its API version."""
    if not _is_v2(request):
        return failure(status, dict(headers or {}))
    answer = problem(status, _DETAILS.get(status, HTTPStatus(status).description or HTTPStatus(status).phrase))
    answer.headers.update(headers or {})
    return answer


_DETAILS = {
    404: "there is nothing at this path",
    500: "the server has failed; its log has the details",
    503: "the store is unavailable; the request may have been carried out if it had begun",
}


def _refuse(status: int) -> Callable[[Request, Exception], Response]:
    """Answer a use case's refusal with a status and the refusal's own text."""
    return lambda request, error: _on_refused(request, Refused(status, str(error)))


def _on_refused(request: Request, error: Refused) -> Response:
    answer = problem(error.status, str(error)) if _is_v2(request) else refused(error.status, str(error))
    answer.headers.update(error.headers)
    return answer


def _on_invalid_body(request: Request, error: InvalidBodyError) -> Response:
    return problem(400, str(error)) if _is_v2(request) else invalid_body(str(error))


def _on_too_large(request: Request, error: BodyTooLargeError) -> Response:
    return problem(413, str(error)) if _is_v2(request) else invalid_body(str(error), 413)


def _on_too_slow(request: Request, error: BodyTooSlowError) -> Response:
    return problem(408, str(error)) if _is_v2(request) else invalid_body(str(error), 408)


def _on_unsupported(request: Request, error: UnsupportedBodyError) -> Response:
    answer = _on_refused(request, Refused(415, str(error)))
    answer.headers["Accept-Encoding"] = "identity"
    return answer


def _on_unstorable(request: Request, error: UnstorableError) -> Response:
    return _on_invalid_body(request, InvalidBodyError(f"the body {error}"))


def _on_invalid_env(request: Request, error: InvalidEnvError) -> Response:
    return _on_invalid_body(request, InvalidBodyError(str(error)))


def limited(request: Request, error: LimitError) -> Response:
    """Answer a request that exceeds a limit on clients."""
    answer = _on_refused(request, Refused(error.status, str(error)))
    answer.headers.update(error.headers)
    return answer


def _on_spool_unavailable(request: Request, error: OSError) -> Response:
    log.error("spool unavailable", path=request.url.path, setting="--http-spool-dir", reason=str(error))
    answer = _on_refused(request, Refused(503, "the server cannot keep the request's body at the moment"))
    answer.headers["Retry-After"] = RETRY_AFTER
    return answer


def _on_quota(request: Request, error: QuotaError) -> Response:
    """Answer a request beyond a limit of its course; the original's clients know only 400."""
    return _on_refused(request, Refused(409 if _is_v2(request) else 400, str(error)))


def _on_not_taken(request: Request, error: NotTakenError) -> Response:
    """Answer a submission that the assignment's policy refuses, with the time of the next one if it is known."""
    answer = _on_refused(request, Refused(_REFUSALS[NotTakenError], str(error)))
    if error.next_at:
        answer.headers["Retry-After"] = str(max(1, math.ceil((error.next_at - now()).total_seconds())))
    return answer


def _on_full_backlog(request: Request, error: BacklogFullError) -> Response:
    answer = _on_refused(request, Refused(429, str(error)))
    answer.headers["Retry-After"] = str(BACKLOG_RETRY_AFTER)
    return answer


def _on_store_unavailable(request: Request, error: StoreError) -> Response:
    log.error("store unavailable", path=request.url.path, reason=str(error))
    return failed(request, 503, {"Retry-After": RETRY_AFTER})


def _on_http_exception(request: Request, error: HTTPException) -> Response:
    return failed(request, error.status_code)


def _on_disconnect(request: Request, error: ClientDisconnect) -> Response:
    log.info("client went away", reason=str(error))
    return failed(request, 400)


def _on_exception(request: Request, error: Exception) -> Response:
    log.error("request failed", path=request.url.path, method=request.method, exc_info=error)
    return failed(request, 500)
