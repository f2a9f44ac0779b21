"""Forms that are shown again, with what was typed and the reasons of their refusal beside their fields."""

import contextlib
from collections.abc import AsyncIterator, Callable, Sequence

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from broadway.ingest.http.answers import Refused
from broadway.ingest.http.errors import answer_to, detail_of, may_have_changed

MOST_PROBLEMS = 20  # on a page


class RefusedForm(Refused):
    """A refusal with a page of its own: the form, with the reasons."""

    def __init__(self, answer: Response) -> None:
        super().__init__(answer.status_code, "the form is not accepted")
        self.answer = answer


@contextlib.asynccontextmanager
async def shown_again(request: Request, show: Callable[[int, Sequence[str]], Response]) -> AsyncIterator[None]:
    """Show a form again if a refusal ends the context: ``show`` gets the status and the reasons.

    Raises:
        RefusedForm: A refusal has ended the context. Other errors pass.
    """
    try:
        yield
    except (ClientDisconnect, RefusedForm):
        raise
    except Exception as error:
        if may_have_changed(error):
            raise
        answer = await answer_to(request, error)
        raise RefusedForm(show(answer.status_code, detail_of(answer).splitlines()[:MOST_PROBLEMS])) from error
