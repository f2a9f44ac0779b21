"""Channels that are closed while the broker is slow."""

import asyncio

from faults.proxy import Link
from harness import PATIENCE, Place
from yarl import URL

from broadway.rabbit.calls import channel_of
from broadway.rabbit.connecting import connect


async def test_a_channel_that_is_closed_slowly_leaves_its_connection_open(place: Place) -> None:
    address = URL(place.amqp_url)
    async with Link.to(address.host or "", address.port or 0) as link:
        way = str(address.with_host("127.0.0.1").with_port(link.port))
        connection = await connect(way, name="test@here", tls=None)
        transport = connection.transport
        is_used, may_end = asyncio.Event(), asyncio.Event()

        async def use() -> None:
            async with channel_of(connection) as channel:
                await channel.declare_queue(exclusive=True)
                is_used.set()
                await may_end.wait()

        task = asyncio.create_task(use())
        await is_used.wait()
        with link.held() as has_begun:
            may_end.set()
            async with asyncio.timeout(PATIENCE):
                await has_begun.wait()
                await task
        async with channel_of(connection) as channel:
            await channel.declare_queue(exclusive=True)
        assert connection.transport is transport
        await connection.close()
