"""The results service: it records graders' events and publishes final outcomes to the other services."""

from functools import partial

from broadway.connections import recorder_of
from broadway.lifecycle.vouching import Vouching
from broadway.messages.envelope import decode_dead_letter
from broadway.messages.ticket import TICKETS, Tickets
from broadway.messages.topology import DEAD, RESULTS
from broadway.mongo.store import Store
from broadway.rabbit.client import Rabbit
from broadway.results.contests import Contests
from broadway.results.dead_letters import handle_dead_letter
from broadway.results.record import batches_of, handle_result
from broadway.runtime.health import Health
from broadway.service import Stop, background, instance
from broadway.settings.programs import ResultsSettings

PREFETCH = 400


async def serve(settings: ResultsSettings, *, store: Store, rabbit: Rabbit, stop: Stop) -> None:
    """Record events until ``stop`` is set."""
    recorder = recorder_of(settings, store, rabbit)
    tickets = Tickets(await store.secrets.get(TICKETS))
    batches = batches_of(recorder)
    on_result = partial(handle_result, batches, Contests(recorder, store.graders, rabbit))
    on_dead_letter = partial(handle_dead_letter, jobs=store.jobs, letters=store.dead_letters, publisher=rabbit)
    health = Health({"store": store.ping, "broker": rabbit.ping}, file=settings.health_file)
    tag = instance("results")
    async with (
        background(batches.run(), health.run()),
        rabbit.consume(RESULTS, on_result, tag=tag, prefetch=PREFETCH, vouched=Vouching(tickets, store.graders)),
        rabbit.consume(DEAD, on_dead_letter, tag=f"{tag}.dead", decoder=decode_dead_letter),
    ):
        stop.heed()
        await stop.wait()
