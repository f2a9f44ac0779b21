"""The connections of a control plane service: the store and the broker, opened together."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from broadway.lifecycle.recording import Recorder
from broadway.mongo.errors import StoreUnreachableError
from broadway.mongo.migrations import UnfinishedRestoreError
from broadway.mongo.store import Store
from broadway.rabbit.client import Rabbit
from broadway.service import StartError, connected, instance
from broadway.settings.programs import ServiceSettings
from broadway.settings.sections import MongoSettings


@dataclass(frozen=True, slots=True)
class Connections:
    """The store and the broker."""

    store: Store
    rabbit: Rabbit


def recorder_of(settings: ServiceSettings, store: Store, rabbit: Rabbit) -> Recorder:
    """Return the recorder of a service's events."""
    return Recorder(
        jobs=store.jobs,
        logs=store.logs,
        graders=store.graders,
        publisher=rabbit,
        policy=settings.retry_policy,
        lease=settings.lease,
        reports=store.reports,
    )


def store_of(mongo: MongoSettings, *, service: str) -> contextlib.AbstractAsyncContextManager[Store]:
    """Connect to the store of some settings; see ``Store.connect``."""
    return Store.connect(
        mongo.dsn, primary=mongo.primary, logs=mongo.logs, server_timeout=mongo.timeout, service=service
    )


@contextlib.asynccontextmanager
async def opened(settings: ServiceSettings, *, service: str) -> AsyncIterator[Connections]:
    """Open the store and the broker and declare the topology; wait for the broker if it is unavailable.

    Raises:
        StartError: The store does not answer, or has a part of a backup.
    """
    async with (
        _store(settings, service) as store,
        connected(settings.amqp_url.get_secret_value(), service=instance(service), tls=settings.tls) as rabbit,
    ):
        await rabbit.declare_topology()
        yield Connections(store, rabbit)


@contextlib.asynccontextmanager
async def opened_without_broker(settings: ServiceSettings, *, service: str) -> AsyncIterator[Connections]:
    """Open the store; the broker stays unconnected until the caller joins it.

    Raises:
        StartError: The store does not answer.
    """
    async with (
        _store(settings, service) as store,
        Rabbit.unconnected(settings.amqp_url.get_secret_value(), service=instance(service), tls=settings.tls) as rabbit,
    ):
        yield Connections(store, rabbit)


@contextlib.asynccontextmanager
async def _store(settings: ServiceSettings, service: str) -> AsyncIterator[Store]:
    async with contextlib.AsyncExitStack() as stack:
        try:
            store = await stack.enter_async_context(store_of(settings.mongodb, service=service))
        except UnfinishedRestoreError as error:
            raise StartError(str(error)) from error
        except StoreUnreachableError as error:
            raise StartError(str(error)) from error
        yield store
