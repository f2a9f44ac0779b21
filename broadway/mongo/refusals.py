"""What the store has against a document, told apart from its being away."""

from bson.errors import BSONError
from pymongo.errors import BulkWriteError, ExecutionTimeout, OperationFailure, WriteConcernError

REASON = 300  # characters; a server may repeat the whole document

# Codes of a server that cannot do what it is asked now, whatever the document is like.
_NOT_NOW = frozenset(
    {
        *(10107, 13435, 13436, 11602, 189, 133, 134),  # not the primary, or not yet
        *(91, 11600, 11601, 290),  # shutting down, interrupted
        *(6, 7, 89, 9001),  # the network between servers
        *(24, 50, 64, 79, 100, 262),  # out of time, or too few servers for the write concern
        *(112, 246, 251),  # another writer came first
        *(13, 18, 14031, 16500),  # not allowed in, no disk left, too much asked: for an operator
    }
)
_WITHOUT_A_FORM = (BSONError, OverflowError, UnicodeEncodeError, RecursionError)  # the driver's own refusals


def refusal(error: Exception) -> str | None:
    """What the store has against a document that it was given; None for any other error, such as an outage."""
    if isinstance(error, _WITHOUT_A_FORM):
        return str(error)[:REASON]
    if isinstance(error, BulkWriteError):
        written = [e for e in error.details.get("writeErrors", []) if e.get("code") not in _NOT_NOW]
        return str(written[0].get("errmsg"))[:REASON] if written else None
    if not isinstance(error, OperationFailure) or isinstance(error, ExecutionTimeout | WriteConcernError):
        return None
    return None if error.code in _NOT_NOW else str(error)[:REASON]
