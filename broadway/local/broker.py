"""A private RabbitMQ node, with all its files in one directory."""

import os
import shutil
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from secrets import token_hex

import httpx2

from broadway.local.plain_path import plain_path
from broadway.local.processes import Child, ChildError, MissingError, absolute, child, free_ports
from broadway.local.secret import kept, private, write

NAME = "broadway"  # of the virtual host and of its user

# The package's wrapper on the PATH switches to a system user, which may not read a private directory.
SERVERS = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server")

PLUGINS = ("rabbitmq_management", "rabbitmq_management_agent", "rabbitmq_prelaunch", "rabbitmq_web_dispatch")

CONFIG = """\
listeners.tcp.local = {address}:{port}
management.tcp.ip = {address}
management.tcp.port = {management_port}
default_vhost = {name}
default_user = {name}
default_pass = {password}
default_user_tags.administrator = true
default_permissions.configure = .*
default_permissions.read = .*
default_permissions.write = .*
consumer_timeout = 14400000
max_message_size = 16777216
disk_free_limit.absolute = 50MB
log.console = true
log.console.level = info
log.file = false
"""

# Host names are resolved from this file alone: no resolver process, no dependence on the machine's resolver.
NAMES = "{lookup, [file]}.\n"

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class Member:
    """A node's membership in a cluster whose nodes are on loopback addresses of one machine.

    `addresses` maps the host name of every node to its address. The nodes share the distribution port, the cookie and
    the password.
    """

    host: str
    addresses: Mapping[str, str]
    distribution: int
    cookie: str = field(repr=False)
    password: str = field(repr=False)

    @property
    def config(self) -> str:
        nodes = (f"cluster_formation.classic_config.nodes.{n} = {NAME}@{h}" for n, h in enumerate(self.addresses, 1))
        return "\n".join(["cluster_formation.peer_discovery_backend = classic_config", *nodes, ""])


@dataclass(frozen=True)
class Broker:
    """A running node that accepts connections."""

    amqp_url: str = field(repr=False)
    management_url: str
    username: str
    password: str = field(repr=False)
    node: str
    child: Child

    @property
    def pid(self) -> int:
        """The process id of the node's Erlang VM."""
        return self.child.pid

    @property
    def administration(self) -> str:
        """The management API's address, with the administrator's login."""
        return self.management_url.replace("://", f"://{self.username}:{self.password}@")

    async def ended(self) -> ChildError:
        return await self.child.ended()


@asynccontextmanager
async def broker(
    directory: Path,
    *,
    port: int | None = None,
    management_port: int | None = None,
    log: Path | None = None,
    within: float = 60,
    member: Member | None = None,
    address: str = LOOPBACK,
    servers: Sequence[str] = SERVERS,
) -> AsyncIterator[Broker]:
    """Run a node on the data in `directory`, on free ports unless they are given.

    The node is standalone, at `address`, or a member of a cluster. It runs the first of `servers` on the PATH.

    Raises MissingError if RabbitMQ is not installed, ChildError if the node is not ready `within` seconds.
    """
    home, server = absolute(directory), _server(servers)
    private(home)
    free, free_management, distribution = free_ports(3)
    port, management_port = port or free, management_port or free_management
    if member is None:
        password, node = kept(home / "password"), f"{kept(home / 'node', _new_name)}@localhost"
        addresses: Mapping[str, str] = {"localhost": address}
        more = ""
        kept(home / ".erlang.cookie", partial(token_hex, 20))
    else:
        password, node, distribution = member.password, f"{NAME}@{member.host}", member.distribution
        addresses, address, more = member.addresses, member.addresses[member.host], member.config
        kept(home / ".erlang.cookie", lambda: member.cookie)
    own = CONFIG.format(address=address, port=port, management_port=management_port, name=NAME, password=password)
    _prepare(home, server, own + more, addresses)
    with plain_path(home) as plain:
        env = _environment(plain, node, address, distribution)
        async with child("RabbitMQ", [server], log=log or home / "broker.log", env=env, grace=30) as running:
            management_url = f"http://{address}:{management_port}"
            async with httpx2.AsyncClient(base_url=management_url, auth=(NAME, password)) as client:
                await running.until(partial(_serves, client, port), within=within)
            amqp_url = f"amqp://{NAME}:{password}@{address}:{port}/{NAME}"
            yield Broker(amqp_url, management_url, NAME, password, node, running)


def _server(names: Sequence[str]) -> str:
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        raise MissingError("no rabbitmq-server: install the package rabbitmq-server, or set BROADWAY_AMQP_URL")
    return found


def _new_name() -> str:
    return f"broadway-{token_hex(4)}"


async def _serves(client: httpx2.AsyncClient, port: int) -> bool:
    """Return whether the node accepts logins and listens on `port`, the last step of its start."""
    try:
        answers = [
            await client.get(f"/api/health/checks/{check}") for check in (f"port-listener/{port}", "virtual-hosts")
        ]
    except httpx2.TransportError:
        return False
    return all(answer.is_success for answer in answers)


def _prepare(home: Path, server: str, config: str, addresses: Mapping[str, str]) -> None:
    write(home / "rabbitmq.conf", config)
    names = (f'{{host, {_tuple(address)}, ["{host}"]}}.\n' for host, address in addresses.items())
    write(home / "inetrc", NAMES + "".join(names))
    write(home / "enabled_plugins", "[rabbitmq_management].\n")
    _trim(home / "server", Path(server).resolve().parent)


def _trim(server: Path, scripts: Path) -> None:
    """Link the server's files into `server`, without the plugins of RabbitMQ that are not in use.

    Erlang searches every plugin's directory for every module that it loads: 40 directories less shorten the start by
    about 4 s.
    """
    shutil.rmtree(server, ignore_errors=True)
    (server / "plugins").mkdir(parents=True)
    for part in ("sbin", "escript"):
        (server / part).symlink_to(scripts.parent / part)
    for plugin in (scripts.parent / "plugins").iterdir():
        name = plugin.name.partition("-")[0]
        if name in PLUGINS or not name.startswith("rabbitmq_"):
            (server / "plugins" / plugin.name).symlink_to(plugin)


def _tuple(address: str) -> str:
    """Return an address as an Erlang tuple."""
    return f"{{{address.replace('.', ',')}}}"


def _environment(home: Path, node: str, address: str, distribution: int) -> dict[str, str]:
    """Return the node's complete environment, without the machine's own RabbitMQ settings.

    Erlang itself gets the node's name and distribution port, so the node needs no epmd, the port mapper that every
    Erlang node otherwise starts and leaves running.
    """
    erlang = f"-sname {node} -start_epmd false -erl_epmd_port {distribution}"
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),  # Erlang reads its cookie there
        "LANG": "C.UTF-8",
        "ERL_INETRC": str(home / "inetrc"),
        "RUNNING_UNDER_SYSTEMD": "true",  # the start script execs the node, so no shell stays between
        "RABBITMQ_SCRIPTS_DIR": str(home / "server" / "sbin"),
        "RABBITMQ_NODENAME": node,
        "RABBITMQ_CONF_ENV_FILE": "/dev/null",
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_ADVANCED_CONFIG_FILE": str(home / "advanced.config"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_PLUGINS_EXPAND_DIR": str(home / "expanded"),
        "RABBITMQ_GENERATED_CONFIG_DIR": str(home / "generated"),
        "RABBITMQ_MNESIA_BASE": str(home),
        "RABBITMQ_MNESIA_DIR": str(home / "data"),
        "RABBITMQ_LOG_BASE": str(home),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_PID_FILE": str(home / "pid"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": f"{erlang} -kernel inet_dist_use_interface {_tuple(address)}",
    }
