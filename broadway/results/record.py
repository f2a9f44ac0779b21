"""The consumer of results: it records graders' events in batches."""

from collections.abc import Sequence
from functools import partial

from broadway.domain.moves import Moved
from broadway.lifecycle.recording import Recorder, record_what_can_be
from broadway.messages.events import Event, JobEvent
from broadway.ports import PublishError, Retry, StoreError, refusal
from broadway.results.contests import Contests
from broadway.runtime.batching import Batcher

Batches = Batcher[Event, Moved | None]


def batches_of(recorder: Recorder) -> Batches:
    """Return a batcher that records events that arrive together in one batch."""
    return Batcher(partial(_record, recorder))


async def handle_result(batches: Batches, contests: Contests, event: Event) -> None:
    """Record an event in its batch; if the store refuses an outcome's results or logs, record it without them.

    Raises:
        Reject: The store refuses the event.
        Retry: The store or the broker is unavailable.
    """
    await contests.record(event, partial(record_what_can_be, record=batches.submit, refusal=refusal))


async def _record(recorder: Recorder, events: Sequence[Event]) -> list[Moved | None]:
    """Record a batch. Raise a refusal by the store unchanged, since it concerns one event; an outage concerns all.

    Returns:
        For each event, its job before and after; None for events about unknown jobs, or about no job.
    """
    try:
        moved = await recorder.record(events)
    except (StoreError, PublishError) as error:
        if refusal(error):
            raise
        raise Retry(str(error)) from error
    return [moved.get(event.job_id) if isinstance(event, JobEvent) else None for event in events]
