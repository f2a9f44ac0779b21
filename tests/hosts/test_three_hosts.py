"""Graders on three hosts: one is revoked in the middle of a run, another loses its link for a minute."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from harness import stage, until
from netns import Site

from broadway.management import Management
from broadway.messages.topology import grader_user

TOKEN = {"Authorization": "Bearer operator-token"}
STUDENTS = 200  # one second each, so that enough of them remain when the link is back
CUT = 60  # seconds


async def graders(site: Site) -> dict[str, dict[str, Any]]:
    answer = await site.client.http.get("/api/v2/graders", headers=TOKEN)
    return {each["id"]: each for each in answer.json()["graders"]}


def all_run(site: Site, *names: str, jobs: int) -> Callable[[], Awaitable[bool]]:
    async def do_all_run() -> bool:
        found = await graders(site)
        return all(len(found.get(name, {}).get("running", [])) == jobs for name in names)

    return do_all_run


def is_in(site: Site, name: str, state: str) -> Callable[[], Awaitable[bool]]:
    async def has_state() -> bool:
        return (await graders(site))[name]["state"] == state

    return has_state


@pytest.mark.long
@pytest.mark.timeout(360)
async def test_a_run_completes_although_one_host_is_revoked_and_one_is_cut_off(site: Site) -> None:
    hosts = site.network.hosts
    names = (_, revoked_one, cut_one) = [host.name for host in hosts]
    for host in hosts:
        await site.join(host)
    await site.client.register("cs241", "mp1", students=[stage("sleep", "1")])
    run_id = await site.client.submit("cs241", "mp1", students=STUDENTS)
    await until(all_run(site, *names, jobs=2))

    await hosts[2].cut_off()
    cut_at = time.monotonic()
    revoked = await site.client.http.post(
        f"/api/v2/graders/{revoked_one}/revoke", json={"reason": "stolen"}, headers=TOKEN
    )
    assert revoked.status_code == 202
    assert await site.processes.running[revoked_one].wait() == 1
    await until(is_in(site, cut_one, "gone"))
    await until(lambda: is_forgotten(site, cut_one), within=90)  # the broker has missed its heartbeats
    await asyncio.sleep(max(0, CUT - (time.monotonic() - cut_at)))
    before = await graded_by(site, run_id, cut_one)
    await hosts[2].mend()
    jobs = (await site.client.finished("cs241", run_id, within=180))["jobs"]

    assert len(jobs) == STUDENTS
    assert {(job["state"], job["outcome"]) for job in jobs} == {("finished", "succeeded")}
    assert await graded_by(site, run_id, cut_one) > before, "it has come back in time to take part"
    assert (await graders(site))[cut_one]["state"] == "online"
    assert (await graders(site))[revoked_one]["state"] == "revoked"
    assert max(job["attempts"] for job in jobs) <= 2, "only what was running where the link broke has started twice"


async def graded_by(site: Site, run_id: str, name: str) -> int:
    """Return the number of a run's jobs that a grader has finished."""
    jobs = (await site.client.describe("cs241", run_id))["jobs"]
    return sum(job["grader"] == name and job["state"] == "finished" for job in jobs)


async def is_forgotten(site: Site, name: str) -> bool:
    async with Management.connect(site.administration) as management:
        return not await management.get("connections", "username", grader_user(name))


async def test_a_revoked_host_cannot_join_until_it_is_readmitted(site: Site) -> None:
    host = site.network.hosts[0]
    name = host.name
    await site.join(host)
    await until(lambda: has_joined(site, name))
    await site.client.http.post(f"/api/v2/graders/{name}/revoke", headers=TOKEN)
    assert await site.processes.running.pop(name).wait() == 1

    await site.join(host)
    assert await site.processes.running.pop(name).wait() == 1
    assert "has been revoked" in site.processes.log(name)

    await site.client.http.post(f"/api/v2/graders/{name}/readmit", headers=TOKEN)
    await site.join(host)
    await until(is_in(site, name, "online"))


async def has_joined(site: Site, name: str) -> bool:
    return (await graders(site)).get(name, {}).get("state") == "online"
