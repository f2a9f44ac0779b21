"""Comparison and repair of a broker's topology, over its management API."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

from yarl import URL

from broadway.connections import store_of
from broadway.management import Management, ManagementError, virtual_host
from broadway.messages.definitions import Drift, Kind, Object, definitions, drifts, left_over
from broadway.messages.topology import SHARED_QUEUES, Queue, durable_queues
from broadway.settings.programs import ServiceSettings

NOT_FOUND = 404
OLDEST = (3, 10)  # later versions accept its definitions, too; `apply` adds the policies that they know
_EVERYTHING = {"configure": ".*", "write": ".*", "read": ".*"}


@dataclass(frozen=True, slots=True)
class Report:
    """Differences from the topology. ``access`` has a sentence for each obstacle to the services' login."""

    access: list[str]
    drifts: list[Drift]
    left_over: list[str]

    @property
    def is_clean(self) -> bool:
        return not self.access and not self.drifts


async def expected_queues(settings: ServiceSettings, *, shared: bool) -> Sequence[Queue]:
    """Return the queues that should exist: those for all courses in the store, or only those of every deployment.

    Raises:
        StoreUnreachableError: The store does not answer.
    """
    if shared:
        return SHARED_QUEUES
    async with store_of(settings.mongodb, service="topology") as store:
        courses = await store.courses.all()
        busy = await store.jobs.courses_with_backlog()
    names = {*(course.id for course in courses), *filter(None, busy)}
    return durable_queues(sorted(names), sorted({"default", *(course.pool for course in courses)}))


class Inspector:
    """An inspector of one virtual host, over the management API. Every call may raise ManagementError."""

    def __init__(self, management: Management, login: URL, queues: Sequence[Queue]) -> None:
        self._management = management
        self._login = login
        self._vhost = virtual_host(str(login))
        self._queues = queues

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, management_url: str, settings: ServiceSettings, queues: Sequence[Queue]
    ) -> AsyncIterator[Self]:
        async with Management.connect(management_url, tls=settings.tls) as management:
            yield cls(management, URL(settings.amqp_url.get_secret_value()), queues)

    async def check(self) -> Report:
        """Compare the broker with the topology, and change nothing."""
        expected = definitions(self._queues, vhost=self._vhost, version=await self._version())
        if await self._get("vhosts", self._vhost) is None:
            missing = {kind.value: list[Object]() for kind in Kind}
            return Report([f"virtual host {self._vhost} is missing"], drifts(expected, missing), [])
        found = {kind.value: await self._management.get(kind.value, self._vhost) for kind in Kind}
        return Report(await self._access(), drifts(expected, found), left_over(expected, found))

    async def apply(self) -> Report:
        """Repair the differences that need no deletion; the report has the remaining ones."""
        if await self._get("vhosts", self._vhost) is None:
            await self._management.put("vhosts", self._vhost)
        await self._grant_access()
        for drift in (await self.check()).drifts:
            if drift.can_be_repaired:
                await self._make(drift)
        return await self.check()

    async def _access(self) -> list[str]:
        user = self._user
        if await self._get("users", user) is None:
            return [f"user {user} is missing"]
        permissions = await self._get("permissions", self._vhost, user) or {}
        if any(permissions.get(right) != pattern for right, pattern in _EVERYTHING.items()):
            return [f"user {user} lacks permissions in {self._vhost}"]
        return []

    async def _grant_access(self) -> None:
        """Give the services' user all permissions. Create it if it is missing; an existing one keeps its password."""
        if await self._get("users", self._user) is None:
            body = {"password": self._login.password or "guest", "tags": ""}
            await self._management.put("users", self._user, body=body)
        await self._management.put("permissions", self._vhost, self._user, body=_EVERYTHING)

    async def _make(self, drift: Drift) -> None:
        body = {key: value for key, value in drift.wanted.items() if key not in {"vhost", "name"}}
        if drift.kind is Kind.BINDING:
            source, queue = drift.wanted["source"], drift.wanted["destination"]
            body = {"routing_key": drift.wanted["routing_key"], "arguments": {}}
            await self._management.post("bindings", self._vhost, "e", source, "q", queue, body=body)
        else:
            await self._management.put(drift.kind.value, self._vhost, drift.name, body=body)

    @property
    def _user(self) -> str:
        return self._login.user or "guest"

    async def _version(self) -> tuple[int, int]:
        major, minor, *_ = (await self._management.get("overview"))["rabbitmq_version"].split(".")
        return int(major), int(minor)

    async def _get(self, *parts: str) -> Object | None:
        try:
            found: Object = await self._management.get(*parts)
        except ManagementError as error:
            if error.status == NOT_FOUND:
                return None
            raise
        return found
