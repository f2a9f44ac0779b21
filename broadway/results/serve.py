"""The results service: records what graders report, and tells the others when an outcome is final."""

import asyncio
from collections.abc import Sequence
from functools import partial

from broadway.lifecycle.recording import Recorder, record_what_can_be
from broadway.messages.events import Event, decode_dead_letter
from broadway.messages.ticket import TICKETS, Tickets
from broadway.messages.topology import DEAD, RESULTS
from broadway.mongo.store import Store
from broadway.ports import PublishError, Retry, StoreError, refusal
from broadway.rabbit.client import Rabbit
from broadway.results.bury import bury
from broadway.runtime.batching import Batcher
from broadway.runtime.health import Health
from broadway.service import background, instance
from broadway.settings.programs import ResultsSettings

PREFETCH = 400


async def serve(settings: ResultsSettings, *, store: Store, rabbit: Rabbit, stop: asyncio.Event) -> None:
    """Record events until told to stop."""
    recorder = Recorder(
        jobs=store.jobs,
        logs=store.logs,
        workers=store.workers,
        publisher=rabbit,
        policy=settings.retry_policy,
        lease=settings.lease,
    )
    tickets = Tickets(await store.secrets.get(TICKETS))
    batches: Batcher[Event, None] = Batcher(partial(_record, recorder))
    undertaker = partial(_bury, store=store, rabbit=rabbit)
    tag = instance("results")
    async with (
        background(batches.run(), _health(settings, store, rabbit).run()),
        rabbit.consume(RESULTS, partial(_take, batches), tag=tag, prefetch=PREFETCH, vouched=tickets.vouch),
        rabbit.consume(DEAD, undertaker, tag=f"{tag}.dead", decoder=decode_dead_letter),
    ):
        await stop.wait()


def _health(settings: ResultsSettings, store: Store, rabbit: Rabbit) -> Health:
    return Health({"store": store.ping, "broker": rabbit.ping}, file=settings.health_file)


async def _take(batches: Batcher[Event, None], event: Event) -> None:
    await record_what_can_be(event, batches.submit, refusal=refusal)


async def _record(recorder: Recorder, events: Sequence[Event]) -> list[None]:
    """Record a batch. What the store refuses is raised as it is: only an outage is everybody's."""
    try:
        await recorder.record(events)
    except (StoreError, PublishError) as error:
        if refusal(error):
            raise
        raise Retry(str(error)) from error
    return [None] * len(events)


async def _bury(event: Event, *, store: Store, rabbit: Rabbit) -> None:
    try:
        await bury(event, jobs=store.jobs, letters=store.dead_letters, publisher=rabbit)
    except (StoreError, PublishError) as error:
        raise Retry(str(error)) from error
