"""Leadership: it never lasts beyond the lease."""

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta

from harness import PATIENCE, until

from broadway.dispatcher.lead import lead

TTL = 2.0  # seconds


@dataclass
class Hanging:
    """A store that grants a lease ``grants`` times, and answers no request after that."""

    grants: int
    requests: list[float] = field(default_factory=list)

    async def acquire(self, _: str, __: str, ___: timedelta) -> bool:
        self.requests.append(asyncio.get_running_loop().time())
        if len(self.requests) > self.grants:
            await asyncio.Event().wait()
        return True

    async def release(self, _: str, __: str) -> None:
        pass


async def test_a_leader_whose_renewal_hangs_stops_before_its_lease_ends() -> None:
    leases, stopped_at = Hanging(grants=2), asyncio.get_running_loop().create_future()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            stopped_at.set_result(asyncio.get_running_loop().time())

    leading = asyncio.create_task(lead(work, leases=leases, holder="me", ttl=TTL))
    try:
        stopped = await asyncio.wait_for(stopped_at, PATIENCE)
        assert stopped < leases.requests[1] + TTL
    finally:
        leading.cancel()
        await asyncio.wait([leading])


async def test_a_candidate_whose_request_hangs_sends_another() -> None:
    leases = Hanging(grants=0)
    leading = asyncio.create_task(lead(asyncio.Event().wait, leases=leases, holder="me", ttl=0.05))  # type: ignore[arg-type]
    try:
        await until(lambda: len(leases.requests) >= 3)
    finally:
        leading.cancel()
        await asyncio.wait([leading])
