"""The commands of operators about parts of a deployment: pools, join tokens, lost graders and dead letters."""

from dataclasses import dataclass

from broadway.ingest.commands.forget_graders import ForgottenGraders
from broadway.ingest.commands.join_tokens import JoinTokens
from broadway.ingest.commands.pools import Pools
from broadway.ingest.commands.retry_letters import LetterRetries


@dataclass(frozen=True, slots=True)
class Operations:
    """The commands of operators, besides orders to graders and new courses."""

    pools: Pools
    join_tokens: JoinTokens
    forgotten_graders: ForgottenGraders
    letter_retries: LetterRetries
