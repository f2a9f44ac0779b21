"""`broadway migrate`: the migrations of the store, which services also carry out when they start."""

import asyncio
from collections.abc import Sequence

from broadway.cli import terminal
from broadway.cli.broker_access import failures, settings_of
from broadway.connections import store_of
from broadway.mongo.inspection import Inspection
from broadway.mongo.migrations import MigrationState
from broadway.settings.sections import MongoSettings

HEAD = ("migration", "state", "at", "by", "change")


def migrate(arguments: Sequence[str] | None, *, dry_run: bool, as_json: bool) -> None:
    """Print all migrations; unless it is a dry run, carry out the pending ones and create missing indexes first."""
    mongo = settings_of(arguments).mongodb
    with failures():
        states = asyncio.run(_planned(mongo) if dry_run else _made(mongo))
    if as_json:
        terminal.document([_fields(each) for each in states])
    else:
        terminal.table(HEAD, [[str(value or "") for value in _fields(each).values()] for each in states])


async def _planned(mongo: MongoSettings) -> list[MigrationState]:
    found = await Inspection.take(mongo.dsn, primary=mongo.primary, logs=mongo.logs, within=mongo.timeout)
    return found.migrations


async def _made(mongo: MongoSettings) -> list[MigrationState]:
    async with store_of(mongo, service="migrate") as store:
        return await store.migrations.states()


def _fields(state: MigrationState) -> dict[str, str | None]:
    at = state.finished_at or state.started_at
    return {
        "migration": state.name,
        "state": "made" if not state.is_pending else "begun" if state.started_at else "pending",
        "at": at.isoformat(timespec="seconds") if at else None,
        "by": state.by or None,
        "change": state.summary or "of a later version",
    }
