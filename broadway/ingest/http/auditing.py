"""Audit records of unsafe requests, made around their handlers, so that no handler can forget its record."""

from collections.abc import Callable
from datetime import UTC, datetime
from secrets import token_hex
from typing import Any

import structlog
from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.audit import AuditRecord, described, described_body
from broadway.ingest.http.auth import principal_of
from broadway.ingest.http.bodies import given_body
from broadway.ingest.http.deps import Deps, Handler
from broadway.ingest.http.errors import may_have_changed
from broadway.ingest.http.rights import Rights
from broadway.ports import StoreError

log = structlog.get_logger(__name__)

FAILED = 500


async def audited(request: Request, deps: Deps, handler: Handler, rights: Rights) -> Response:
    """Return a handler's answer, and keep a record of the action.

    A refusal that the handler raises changes nothing, and has no record. Any other error may follow a change.

    Raises:
        Exception: The handler's.
    """
    before = await _state_before(request, deps, rights)
    try:
        answer = await handler(request, deps)
    except Exception as error:
        if may_have_changed(error):
            await _keep(request, deps, rights, before, None)
        raise
    await _keep(request, deps, rights, before, answer)
    return answer


def hide(request: Request, replaced: Callable[[str], str]) -> None:
    """Have the record of a request made of texts in which a name is replaced."""
    request.state.replaced = replaced


async def note_read(request: Request, deps: Deps, operation: str) -> None:
    """Keep a record of a read that discloses all about a person, before its answer."""
    await _keep(request, deps, Rights((), operation=operation), None, Response())


async def _state_before(request: Request, deps: Deps, rights: Rights) -> Any:
    """Return the state that a request is about to change.

    A stored state that cannot be read does not keep the request from replacing it.

    Raises:
        StoreError: The store is unavailable; nothing has changed.
    """
    try:
        return await rights.before(request, deps) if rights.before else None
    except StoreError:
        raise
    except Exception as error:
        if not may_have_changed(error):  # the object does not exist
            raise
        log.warning("state before an action not readable", operation=rights.operation, error=type(error).__name__)
        return {"unreadable": type(error).__name__}


async def _keep(request: Request, deps: Deps, rights: Rights, before: Any, answer: Response | None) -> None:
    principal = principal_of(request)
    shown: Callable[[str], str] = getattr(request.state, "replaced", str)
    given = described_body(given_body(request))
    record = AuditRecord(
        id=token_hex(12),
        at=datetime.now(UTC),
        kind=principal.kind.value,
        name=principal.name,
        address=request.client.host if request.client else "",
        operation=rights.operation,
        object=shown(request.url.path)[:1000],
        course=request.path_params.get("course") or principal.course,
        status=answer.status_code if answer else FAILED,
        given=None if given is None else shown(given),
        before=described(before),
        after=described_body(bytes(answer.body)) if answer else None,
        request=structlog.contextvars.get_contextvars().get("request", ""),
    )
    await deps.auditor.keep(record, wait=not rights.recent)
