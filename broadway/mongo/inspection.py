"""Inspect a store without changing it, to check that it is set up as services need it."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Self, cast

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from broadway.domain.course import Course
from broadway.domain.grader import Grader
from broadway.domain.letter import Letter
from broadway.domain.pool import Pool
from broadway.mongo.collection import Document
from broadway.mongo.courses import Courses
from broadway.mongo.dead_letters import DeadLetters
from broadway.mongo.errors import translated
from broadway.mongo.graders import Graders
from broadway.mongo.hooks import Deliveries
from broadway.mongo.jobs import Jobs
from broadway.mongo.logs import Logs
from broadway.mongo.pools import Pools
from broadway.mongo.runs import Runs

Database = AsyncDatabase[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Inspection:
    """The state of a store.

    ``ahead`` is the server's clock minus this host's. ``missing_indexes`` have names such as ``grading_job.by_run``.
    ``graders`` are the live graders, and ``pools`` the pools whose settings have been changed. ``letters`` is the
    number of dead letters, and ``letter`` the latest of them, without its body.
    """

    is_replicated: bool
    ahead: timedelta
    missing_indexes: list[str]
    courses: list[Course]
    graders: list[Grader]
    pools: list[Pool]
    letters: int
    letter: Letter | None

    @classmethod
    async def take(cls, dsn: str, *, primary: str, logs: str, within: float) -> Self:
        """Inspect a store; each step may take ``within`` seconds.

        Raises:
            StoreError: The store does not answer, or refuses the login.
            ValueError: The address is invalid.
        """
        return await translated(cls._take(dsn, primary, logs, limit=int(within * 1000)))

    @classmethod
    async def _take(cls, dsn: str, primary: str, logs: str, *, limit: int) -> Self:
        client: AsyncMongoClient[Document] = AsyncMongoClient(
            dsn,
            serverSelectionTimeoutMS=limit,
            connectTimeoutMS=limit,
            socketTimeoutMS=limit,
            tz_aware=True,
            appname="broadway-doctor",
        )
        async with client:
            begun = datetime.now(UTC)
            hello = await client.admin.command("hello")
            between = begun + (datetime.now(UTC) - begun) / 2
            main = client[primary]
            letters = DeadLetters(main["dead_letter"])
            return cls(
                is_replicated="setName" in hello or hello.get("msg") == "isdbgrid",
                ahead=hello["localTime"].replace(tzinfo=UTC) - between,
                missing_indexes=await _missing(main, client[logs]),
                courses=await Courses(main["course"]).all(),
                graders=await Graders(main["worker_node"]).alive(),
                pools=await Pools(main["pool"]).all(),
                letters=await letters.count(),
                letter=await letters.newest(),
            )


class _IndexRecorder:
    """A collection that only records the names of the indexes that it is asked to create."""

    def __init__(self) -> None:
        self.names: list[str] = []

    async def create_index(self, _: object, *, name: str, **__: object) -> None:
        self.names.append(name)


async def _missing(main: Database, logs: Database) -> list[str]:
    """Return the missing ones among the indexes that services create when they start."""
    missing: list[str] = []
    for collection, kind in (
        (main["grading_run"], Runs),
        (main["grading_job"], Jobs),
        (main["hook_delivery"], Deliveries),
        (logs["job_log"], Logs),
    ):
        required = _IndexRecorder()
        await kind(cast("Any", required)).ensure_indexes()
        present = await collection.index_information()
        missing += [f"{collection.name}.{name}" for name in required.names if name not in present]
    return missing
