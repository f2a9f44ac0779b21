"""`/dead-letters`: messages that no service could handle, for operators."""

from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response

from broadway.ingest.commands.retry_letters import NO_SUCH_LETTER
from broadway.ingest.http.answers import CORS, Refused
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.rights import Auth
from broadway.ingest.v2.openapi import answered, operation, query_of
from broadway.ingest.v2.views.dead_letters import letter_view
from broadway.messages.resources.base import MAX_PAGE, Page
from broadway.messages.resources.dead_letters import LetterRetryView, LetterView


class Latest(BaseModel):
    """The query of a list without further pages."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    limit: int = Field(default=50, ge=1, le=MAX_PAGE, description="the highest number of items to return")


@operation(Page[LetterView], query=Latest, auth=Auth.OPERATOR, operation_id="letters_list_letters")
async def list_letters(request: Request, deps: Deps) -> Response:
    """List the latest dead letters, latest first.

    There are no further pages: discard the letters that have been handled.
    """
    found = await deps.store.dead_letters.latest(query_of(request, Latest).limit)
    return answered(Page[LetterView](items=[letter_view(letter) for letter in found], next=None))


@operation(LetterView, auth=Auth.OPERATOR, operation_id="letters_show")
async def show(request: Request, deps: Deps) -> Response:
    """Get a dead letter."""
    letter = await deps.store.dead_letters.get(request.path_params["letter"])
    if letter is None:
        raise Refused(404, NO_SUCH_LETTER)
    return answered(letter_view(letter))


async def _before(request: Request, deps: Deps) -> Any:
    """Return the dead letter without its body, which may hold secrets, or None."""
    letter = await deps.store.dead_letters.get(request.path_params["letter"])
    return letter_view(letter).model_dump(mode="json", exclude={"body"}) if letter else None


@operation(None, status=204, auth=Auth.OPERATOR, operation_id="letters_discard", before=_before)
async def discard(request: Request, deps: Deps) -> Response:
    """Discard a dead letter; the job that it is about does not change."""
    if not await deps.store.dead_letters.discard(request.path_params["letter"]):
        raise Refused(404, NO_SUCH_LETTER)
    return Response(status_code=204, headers=CORS)


@operation(LetterRetryView, auth=Auth.OPERATOR, operation_id="letters_retry", refusals=[409], before=_before)
async def retry(request: Request, deps: Deps) -> Response:
    """Run the jobs again that ended by a dead letter, and remove the letter.

    Jobs that ended otherwise, or run again already, stay as they are, so a repetition changes nothing.
    """
    retried = await deps.operations.letter_retries.retry(request.path_params["letter"])
    return answered(LetterRetryView.model_validate(asdict(retried)))
