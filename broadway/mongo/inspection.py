"""Inspect a store without changing it, to check that it is set up as services need it."""

import asyncio
import contextlib
import os
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Self, cast

from bson.codec_options import CodecOptions
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.uri_parser import parse_uri

from broadway.domain.course import Course
from broadway.domain.grader import Grader
from broadway.domain.letter import Letter
from broadway.domain.pool import Pool
from broadway.mongo.client import Answers, Client
from broadway.mongo.courses import Courses
from broadway.mongo.dead_letters import DeadLetters
from broadway.mongo.errors import StoreUnavailableError, translated
from broadway.mongo.graders import Graders
from broadway.mongo.migrations import Migrations, MigrationState
from broadway.mongo.pools import Pools
from broadway.mongo.store import Store

_BY_DNS = "mongodb+srv://"  # the hosts are in a record that only the driver reads
Database = AsyncDatabase[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Inspection:
    """The state of a store.

    ``ahead`` is the server's clock minus this host's. ``missing_indexes`` have names such as ``grading_job.by_run``.
    ``migrations`` are those that this version or the store knows. ``graders`` are the live graders, and ``pools`` the
    pools whose settings have been changed. ``letters`` is the number of dead letters, and ``letter`` the latest of
    them, without its body.
    """

    is_replicated: bool
    ahead: timedelta
    missing_indexes: list[str]
    migrations: list[MigrationState]
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
        await translated(_reach(dsn, within=within))
        return await translated(cls._take(dsn, primary, logs, limit=int(within * 1000)))

    @classmethod
    async def _take(cls, dsn: str, primary: str, logs: str, *, limit: int) -> Self:
        client = Client(
            dsn,
            serverSelectionTimeoutMS=limit,
            connectTimeoutMS=limit,
            socketTimeoutMS=limit,
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
                migrations=await Migrations(main["migration"]).states(),
                courses=await Courses(main["course"]).all(),
                graders=await Graders(main["worker_node"]).alive(),
                pools=await Pools(main["pool"]).all(),
                letters=await letters.count(),
                letter=await letters.newest(),
            )


async def _reach(dsn: str, *, within: float) -> None:
    """Return once one of the store's servers accepts a connection.

    The driver would go on trying until its time is over, so that a refusal would look like an overload.

    Raises:
        StoreUnavailableError: All refuse, or cannot be found.
    """
    if dsn.startswith(_BY_DNS):
        return
    hosts = parse_uri(dsn, validate=False)["nodelist"]
    reasons = [await _refusal(host, port, within=within / len(hosts)) for host, port in hosts]
    if None not in reasons:
        raise StoreUnavailableError("; ".join(filter(None, reasons)))


async def _refusal(host: str, port: int | None, *, within: float) -> str | None:
    """Return why a server refuses connections; None if it accepts one, or gives no answer in time."""
    try:
        async with asyncio.timeout(within):
            if port is None:
                _, writer = await asyncio.open_unix_connection(host)
            else:
                _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return None
    except OSError as error:
        return f"{host}:{port}: {os.strerror(error.errno) if error.errno and error.errno > 0 else error}"
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return None


class _IndexRecorder:
    """A collection that only records the names of the indexes that it is asked to create."""

    codec_options: ClassVar[CodecOptions[dict[str, Any]]] = CodecOptions()

    def __init__(self) -> None:
        self.names: list[str] = []

    def with_options(self, **_: object) -> Self:
        return self

    async def create_index(self, _: object, *, name: str, **__: object) -> None:
        self.names.append(name)


async def _missing(main: Database, logs: Database) -> list[str]:
    """Return the missing ones among the indexes that services create when they start."""
    required: tuple[defaultdict[str, _IndexRecorder], ...] = (defaultdict(_IndexRecorder), defaultdict(_IndexRecorder))
    in_main, in_logs = cast("tuple[Any, Any]", required)
    await Store.of(in_main, in_logs, Answers()).ensure_indexes()
    missing: list[str] = []
    for database, collections in zip((main, logs), required, strict=True):
        for name, recorder in collections.items():
            present = await database[name].index_information() if recorder.names else ()
            missing += [f"{name}.{index}" for index in recorder.names if index not in present]
    return missing
