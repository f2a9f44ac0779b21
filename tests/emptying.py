"""The removal of all that a test leaves in a deployment that it shares with other tests."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import aio_pika
import httpx2
from harness import Client, Place, token_of, until
from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from broadway.domain.run import RunState
from broadway.messages.topology import DISPATCHER, RESULTS, durable_queues

Mongo = AsyncMongoClient[dict[str, Any]]
# The deployment's own documents: its secrets, its leader, its migrations.
KEPT = frozenset({"service_lease", "service_secret", "migration", "retention"})
CONFIGURED = ("course", "pool")  # from the settings
OPEN = {"state": {"$nin": [state.value for state in RunState if state.is_terminal]}}
CONSUMED = frozenset({RESULTS.name, DISPATCHER.name})  # by the control plane, which empties them itself


async def filled(database: AsyncDatabase[dict[str, Any]]) -> list[str]:
    """Return the names of the collections that have documents."""
    some = {
        name: [{"$limit": 1}, {"$project": {"_id": 0, "name": {"$literal": name}}}]
        for name in await database.list_collection_names()
    }
    first, *others = some or {"none": []}
    unions = [{"$unionWith": {"coll": name, "pipeline": some[name]}} for name in others]
    found = await (await database[first].aggregate([*some.get(first, []), *unions])).to_list()
    return [each["name"] for each in found]


@dataclass(frozen=True)
class Contents:
    """The jobs, messages and documents of a deployment."""

    place: Place
    client: Client
    mongo: Mongo
    configured: Mapping[str, list[dict[str, Any]]]

    @classmethod
    async def of(cls, place: Place, client: Client, mongo: Mongo) -> Self:
        """Note the contents of a new deployment."""
        main = mongo[f"{place.name}_ag"]
        return cls(place, client, mongo, {name: await main[name].find().to_list() for name in CONFIGURED})

    async def cancel(self) -> None:
        """Cancel the runs that have not ended, so that no grader has a job."""
        runs = self.mongo[f"{self.place.name}_ag"]["grading_run"]
        for run in await runs.find(OPEN, {"assignment_id": 1}).to_list():
            course = run["assignment_id"].partition("/")[0]
            path = f"/api/v2/courses/{course}/runs/{run['_id']}/cancel"
            headers = {"Authorization": f"Bearer {token_of(course)}"}
            answer = await self.client.http.post(path, headers=headers)
            assert answer.is_success or answer.status_code == httpx2.codes.CONFLICT, answer.text

        async def have_ended() -> bool:
            return await runs.find_one(OPEN) is None

        await until(have_ended)

    async def remove(self) -> None:
        """Purge the queues, and delete the documents."""
        courses = [each["_id"] for each in self.configured["course"]]
        names = {queue.name for queue in durable_queues(courses, ["default"])}
        async with await aio_pika.connect(self.place.amqp_url) as connection, connection.channel() as channel:
            for name in names - CONSUMED:
                queue = await channel.get_queue(name)
                if queue.declaration_result.message_count:
                    await queue.purge()
        for database in (f"{self.place.name}_ag", f"{self.place.name}_logs"):
            for name in await filled(self.mongo[database]):
                if name not in (*KEPT, *CONFIGURED):
                    await self.mongo[database][name].delete_many({})
        for name, documents in self.configured.items():
            collection = self.mongo[f"{self.place.name}_ag"][name]
            if await collection.find().to_list() != documents:
                await collection.delete_many({})
                await collection.insert_many(documents)
