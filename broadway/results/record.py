"""The consumer of results: records what graders report, in batches."""

from collections.abc import Sequence
from functools import partial

from broadway.lifecycle.recording import Recorder, record_what_can_be
from broadway.messages.events import Event
from broadway.ports import PublishError, Retry, StoreError, refusal
from broadway.runtime.batching import Batcher


def batches_of(recorder: Recorder) -> Batcher[Event, None]:
    """Events that arrive together are recorded together."""
    return Batcher(partial(_record, recorder))


async def handle_result(batches: Batcher[Event, None], event: Event) -> None:
    """Record an event with the others of its batch; an outcome with as much of it as the store takes.

    Raises:
        Reject: The store refuses all of it.
        Retry: The store or the broker is unavailable.
    """
    await record_what_can_be(event, batches.submit, refusal=refusal)


async def _record(recorder: Recorder, events: Sequence[Event]) -> list[None]:
    """Record a batch. A refusal of the store is raised as it is: only an outage is everybody's."""
    try:
        await recorder.record(events)
    except (StoreError, PublishError) as error:
        if refusal(error):
            raise
        raise Retry(str(error)) from error
    return [None] * len(events)
