"""Translation of the driver's errors into those of ``broadway.ports``."""

import re
from collections.abc import Awaitable
from typing import TypeVar

from bson.errors import BSONError, InvalidBSON
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
)
from pymongo.errors import DuplicateKeyError as DriverDuplicateKeyError

from broadway.ports import StoreError, UnstorableError

# Codes of errors that do not depend on the document; the same request may succeed later.
_TEMPORARY = frozenset(
    {
        *(10107, 13435, 13436, 11602, 189, 133, 134),  # not the primary, or not yet
        *(91, 11600, 11601, 290),  # shutting down, interrupted
        *(6, 7, 89, 9001),  # the network between servers
        *(24, 50, 64, 79, 100, 262),  # out of time, or too few servers for the write concern
        *(112, 246, 251),  # another writer was first
        *(13, 18, 14031, 16500),  # login refused, disk full, request rate too large: an operator must act
    }
)

Answer = TypeVar("Answer")

UNUSABLE = "the MongoDB address is not usable: its options or hosts are wrong; correct --mongodb-dsn"
_OF_THE_DRIVER = re.compile(r", Timeout:| \(configured")  # its timeouts, and its description of the servers
_LONGEST = 300  # characters


class StoreUnreachableError(ConnectionError):
    """No MongoDB server answers at the configured address, or it refuses the login."""


class StoreUnavailableError(StoreError):
    """No server took the request, or its answer was lost. Such a failure affects all requests."""


class DuplicateKeyError(StoreError):
    """The collection has another document with the same unique key."""


async def translated(call: Awaitable[Answer]) -> Answer:
    """Await a call of the driver.

    Raises:
        StoreError: The driver raised an error, which is the cause of this one and has the same text.
        UnstorableError: The driver could not encode a document.
    """
    try:
        return await call
    except PyMongoError as error:
        raise _store_error(error) from error
    except InvalidBSON:  # a stored document cannot be decoded; the caller's documents are not at fault
        raise
    except BSONError as error:
        raise UnstorableError(str(error)) from error


def reason_of(error: BaseException) -> str:
    """Return the first part of the driver's text for a server that does not answer."""
    return _OF_THE_DRIVER.split(str(error))[0][:_LONGEST]


def unreachable(error: BaseException) -> str:
    """Return the sentence for a store that does not answer, or refuses the login."""
    return f"MongoDB does not answer: {reason_of(error)}; is --mongodb-dsn right, and the server up?"


def _store_error(error: PyMongoError) -> StoreError:
    """Translate an error of the driver."""
    match error:
        case ConnectionFailure():
            return StoreUnavailableError(str(error))
        case DriverDuplicateKeyError():
            return DuplicateKeyError(str(error), refusal=_refusal(error))
        case _:
            return StoreError(str(error), refusal=_refusal(error))


def _refusal(error: PyMongoError) -> str | None:
    """Return the server's objection to a document; None for any other error, such as an outage."""
    if isinstance(error, BulkWriteError):
        written = [e for e in error.details.get("writeErrors", []) if e.get("code") not in _TEMPORARY]
        return str(written[0].get("errmsg")) if written else None
    if not isinstance(error, OperationFailure) or isinstance(error, ExecutionTimeout | WriteConcernError):
        return None
    return None if error.code in _TEMPORARY else str(error)
