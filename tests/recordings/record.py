"""Records the scenario: its messages, the documents that it leaves, and the answers about them."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx2
from harness import Client, Place
from recordings.questions import ask
from recordings.recording import Entry, Recording, restore, stored
from recordings.scenario import play
from recordings.system import databases, host, running, serving, settings_for

from broadway.local.broker import Broker


async def record(place: Place, directory: Path, broker: Broker, *, version: str) -> Recording:
    """Run the scenario in an empty place, and keep its messages and documents."""
    try:
        async with running(place, directory, management_url=broker.administration) as system:
            await play(system)
            documents = await stored(place.mongodb_dsn, databases(place.name))
            messages = list(system.capture.messages)
    finally:
        await _remove_users(broker)
    return Recording({"version": version, "host": host()}, messages, documents)


@dataclass(frozen=True)
class Served:
    """An ingest service over restored documents, and its answers about them."""

    place: Place
    client: Client
    answers: list[Entry]
    openapi: Entry


@contextlib.asynccontextmanager
async def served(documents: list[Entry], place: Place, *, most: int | None = None) -> AsyncIterator[Served]:
    """Restore documents to an empty place, and ask the service there about them: at most so much of each kind."""
    await restore(documents, place.mongodb_dsn, databases(place.name))
    async with serving(settings_for(place)) as client:
        answers = await ask(client, documents, most=most)
        openapi: Entry = (await client.http.get("/api/v2/openapi.json")).json()
        yield Served(place, client, answers, openapi)


async def _remove_users(broker: Broker) -> None:
    """Remove the users of the scenario's graders, because the whole broker shares its users."""
    auth = (broker.username, broker.password)
    async with httpx2.AsyncClient(base_url=broker.management_url, auth=auth) as management:
        for grader in ("host1", "host2"):
            await management.delete(f"/api/users/broadway-grader-{grader}")
