"""What a service of the control plane works with, opened together."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from broadway.mongo import Store, StoreUnreachableError
from broadway.rabbit import Rabbit
from broadway.service import StartError, connected, instance
from broadway.settings import ServiceSettings


@dataclass(frozen=True, slots=True)
class Connections:
    """The store, and the broker with its topology."""

    store: Store
    rabbit: Rabbit


@contextlib.asynccontextmanager
async def opened(settings: ServiceSettings, *, service: str) -> AsyncIterator[Connections]:
    """Open the store and the broker and make sure of the topology; waits for a broker that is not there yet.

    Raises:
        StartError: The store does not answer.
    """
    mongo = settings.mongodb
    async with contextlib.AsyncExitStack() as stack:
        try:
            store = await stack.enter_async_context(
                Store.connect(
                    mongo.dsn,
                    primary=mongo.primary,
                    logs=mongo.logs,
                    server_timeout=mongo.timeout,
                    service=service,
                )
            )
        except StoreUnreachableError as error:
            raise StartError(f"{error}; is --mongodb-dsn right, and the server up?") from error
        rabbit = await stack.enter_async_context(
            connected(settings.amqp_url.get_secret_value(), service=instance(service), tls=settings.tls)
        )
        await rabbit.declare_topology()
        yield Connections(store, rabbit)
