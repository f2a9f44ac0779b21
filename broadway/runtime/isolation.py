"""Isolation of the parts of a shared loop: an error about one course, grader or job must not end it for the others."""

import contextlib
from collections.abc import Iterator
from typing import Any

import structlog

from broadway.ports import PublishError, Retry, StoreError
from broadway.runtime import metrics

log = structlog.get_logger(__name__)

_OUTAGES = (StoreError, PublishError, Retry)  # they concern all parts, and each loop handles them itself


@contextlib.contextmanager
def isolated(loop: str, **about: Any) -> Iterator[None]:
    """Log and count an unexpected error of a block, and go on after it.

    Errors of the store and of the broker, and cancellations, are raised.

    Args:
        loop: The name of the loop, for the metric.
        about: Fields of the log line, such as the course.
    """
    try:
        yield
    except _OUTAGES:
        raise
    except Exception:
        metrics.LOOP_ERRORS.labels(loop).inc()
        log.exception("skipped after an unexpected error; the others go on", loop=loop, **about)
