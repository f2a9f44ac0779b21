"""The Docker SDK's client, adapted to many concurrent calls to an engine on this host, in threads of their own."""

import asyncio
import concurrent.futures
import os
from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar

import docker.utils
from docker.errors import DockerException
from docker.transport import UnixHTTPAdapter
from requests import Response
from urllib3.exceptions import HTTPError

from broadway.domain.job import FaultPhase
from broadway.grader.docker.connections import Connections
from broadway.grader.ports import ContainerError, Limits
from broadway.grader.sandbox.engine_features import EngineFeatures
from broadway.runtime.cancellation import finish

CALL_TIMEOUT = 60  # seconds that the engine may take for one call
ENGINE_ERRORS = (DockerException, OSError, HTTPError)  # every error of requests is an OSError

T = TypeVar("T")
P = ParamSpec("P")


class Client(docker.APIClient):
    """A client with a timeout on every call: the SDK sends some calls, such as pull, without one.

    Calls to an engine on this host go to its socket directly (``direct``).
    """

    direct: Connections | None = None

    def request(self, method: str, url: str, **options: Any) -> Response:  # type: ignore[override]
        options["timeout"] = options.get("timeout") or self.timeout
        if self.direct and self.direct.takes(options):
            return self.direct.request(method, url, **options)
        return super().request(method, url, **options)

    def close(self) -> None:
        super().close()
        if self.direct:
            self.direct.close()


class Engine:
    """The SDK's client, called in threads of an executor."""

    def __init__(self, client: Client, threads: concurrent.futures.Executor) -> None:
        self.client = client
        self._threads = threads

    def begin(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[T]:
        """Start a call in a thread."""
        return asyncio.get_running_loop().run_in_executor(self._threads, partial(call, *args, **kwargs))

    async def call(self, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return a call's result. The call is finished even if the caller is cancelled, so that its effect is known."""
        return await finish(self.begin(call, *args, **kwargs))


def connect(docker_host: str | None, *, pool: int) -> Client:
    try:
        return new_client(docker_host, version="auto", timeout=CALL_TIMEOUT, pool=pool)
    except ENGINE_ERRORS as error:
        address = docker_host or os.environ.get("DOCKER_HOST") or "this host's default socket"
        reason = f"no container engine answers at {address} (DOCKER_HOST): {error}"
        raise ContainerError(reason, phase=FaultPhase.CREATE, retryable=True) from error


def new_client(docker_host: str | None, *, version: str, timeout: int, pool: int) -> Client:
    environment = {**os.environ, **({"DOCKER_HOST": docker_host} if docker_host else {})}
    options = docker.utils.kwargs_from_env(environment=environment)
    client = Client(version=version, timeout=timeout, max_pool_size=pool, **options)
    if isinstance(adapter := client.get_adapter(client.base_url), UnixHTTPAdapter):
        client.trust_env = False  # no proxies: their lookup takes a third of every call
        headers = {name: str(value) for name, value in client.headers.items()}
        client.direct = Connections(adapter.socket_path, headers=headers, timeout=timeout, number=pool)
    return client


def is_local(client: Client) -> bool:
    """Return whether a client's engine runs on this host."""
    return client.base_url.startswith("http+docker:")


def read_features(client: Client, limits: Limits) -> EngineFeatures:
    """Return the engine's features, or the minimum if it does not answer."""
    try:
        return EngineFeatures.of(
            client.info(), runtime=limits.runtime, is_local=is_local(client), allow_32_bit=limits.allow_32_bit
        )
    except ENGINE_ERRORS:
        return EngineFeatures()
