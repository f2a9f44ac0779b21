"""The receiver in the documents checks callbacks of a real notifier, and handles each event once."""

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx2
from callback_world import World
from harness import free_port, until

from broadway.domain.callback_delivery import CallbackState, Endpoint, new_secret

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "receiver.py"


@contextlib.asynccontextmanager
async def example(*secrets: str) -> AsyncIterator[tuple[int, asyncio.StreamReader]]:
    """Run the receiver; yield its port and its output."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLE), str(port)),
        env={**os.environ, "CALLBACK_SECRETS": " ".join(secrets)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        assert process.stdout is not None
        await until(lambda: answers(port))
        yield port, process.stdout
    finally:
        process.kill()
        await process.wait()


async def answers(port: int) -> bool:
    """Send a request that no notifier has signed; return whether it is refused."""
    with contextlib.suppress(httpx2.TransportError):
        async with httpx2.AsyncClient() as client:
            return (await client.post(f"http://127.0.0.1:{port}/", content=b"{}")).status_code == 401
    return False


async def test_the_example_handles_genuine_callbacks_once(world: World) -> None:
    mine, old = await world.endpoint(1, "mine"), new_secret(b"x" * 32)
    async with example(mine.secret, old) as (port, output):
        await moved(world, mine, port)
        other = await world.endpoint(port, "other", url=f"http://receiver.example:{port}/")
        event = await world.emit("d1")
        await world.notifier(port).step()
        assert (await output.readline()).decode().startswith("hook.unmatched {")
        assert [each.state for each in await world.deliveries(mine)] == [CallbackState.DELIVERED]
        (refused,) = await world.deliveries(other)
        assert (refused.state, refused.answers[0].status) == (CallbackState.PENDING, 401)
        delivery = await world.delivery(mine)
        await world.store.callbacks.deliveries.replay(delivery.replayed(world.clock()), of=delivery)
        later = await world.emit("d2")
        await world.notifier(port).step()
        assert '"delivery": "d2"' in (await output.readline()).decode(), "the repeated event is not handled again"
        assert {each.event for each in await world.deliveries(mine)} == {event.id, later.id}


async def moved(world: World, endpoint: Endpoint, port: int) -> None:
    """Give an endpoint the address of the receiver."""
    address = f"http://receiver.example:{port}/"
    assert await world.store.callbacks.endpoints.put_settings(replace(endpoint, url=address))
