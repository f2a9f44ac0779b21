"""Dead letters as resources."""

from dataclasses import asdict

from broadway.domain.letter import Letter
from broadway.messages.resources.dead_letters import LetterView

MAX_LETTER = 64 * 1024  # bytes of a dead letter's body in its view


def letter_view(letter: Letter) -> LetterView:
    body = letter.body[:MAX_LETTER].decode(errors="replace")
    return LetterView.model_validate({**asdict(letter), "body": body})
