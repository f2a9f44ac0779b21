"""The consumer of results: it records graders' events in batches."""

from collections.abc import Sequence
from functools import partial

from broadway.lifecycle.recording import Recorder, record_what_can_be
from broadway.messages.events import Event
from broadway.ports import PublishError, Retry, StoreError, refusal
from broadway.runtime.batching import Batcher


def batches_of(recorder: Recorder) -> Batcher[Event, None]:
    """Return a batcher that records events that arrive together in one batch."""
    return Batcher(partial(_record, recorder))


async def handle_result(batches: Batcher[Event, None], event: Event) -> None:
    """Record an event in its batch; if the store refuses an outcome's results or logs, record it without them.

    Raises:
        Reject: The store refuses the event.
        Retry: The store or the broker is unavailable.
    """
    await record_what_can_be(event, batches.submit, refusal=refusal)


async def _record(recorder: Recorder, events: Sequence[Event]) -> list[None]:
    """Record a batch. Raise a refusal by the store unchanged, since it concerns one event; an outage concerns all."""
    try:
        await recorder.record(events)
    except (StoreError, PublishError) as error:
        if refusal(error):
            raise
        raise Retry(str(error)) from error
    return [None] * len(events)
