"""A broker and a store in containers: RabbitMQ 4 and a replica set of MongoDB, or the images that variables name."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from secrets import token_hex

from pymongo import MongoClient
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.rabbitmq import RabbitMqContainer

RABBITMQ_IMAGE = os.environ.get("BROADWAY_TEST_RABBITMQ_IMAGE", "rabbitmq:4-management")
MONGODB_IMAGE = os.environ.get("BROADWAY_TEST_MONGODB_IMAGE", "mongo:8")
AMQP_PORT, MANAGEMENT_PORT, MONGODB_PORT = 5672, 15672, 27017
INITIATE = f"rs.initiate({{_id: 'rs0', members: [{{_id: 0, host: 'localhost:{MONGODB_PORT}'}}]}})"
READY = 120  # timeout in seconds


@contextmanager
def rabbitmq() -> Iterator[tuple[str, str]]:
    """Run RabbitMQ; yield the addresses for AMQP and the management API, with an administrator's login."""
    testcontainers_config.ryuk_disabled = True  # it needs another image
    login = f"broadway:{token_hex(8)}"
    user, _, password = login.partition(":")
    started = RabbitMqContainer(RABBITMQ_IMAGE, username=user, password=password, vhost="broadway")
    with started.with_exposed_ports(MANAGEMENT_PORT) as container:
        host = container.get_container_host_ip()
        amqp, management = container.get_exposed_port(AMQP_PORT), container.get_exposed_port(MANAGEMENT_PORT)
        yield f"amqp://{login}@{host}:{amqp}/broadway", f"http://{login}@{host}:{management}"


@contextmanager
def mongodb() -> Iterator[str]:
    """Run MongoDB; yield the address of the replica set's only member, its primary."""
    testcontainers_config.ryuk_disabled = True
    started = DockerContainer(MONGODB_IMAGE).with_exposed_ports(MONGODB_PORT)
    with started.with_command("mongod --replSet rs0 --bind_ip_all") as container:
        address = f"{container.get_container_host_ip()}:{container.get_exposed_port(MONGODB_PORT)}"
        dsn = f"mongodb://{address}/?directConnection=true"
        with MongoClient[dict[str, object]](dsn, serverSelectionTimeoutMS=1000 * READY) as client:
            client.admin.command("ping")
            done = container.exec(["mongosh", "--quiet", "--norc", "--eval", INITIATE])
            assert done.exit_code == 0, done.output
            end = time.monotonic() + READY
            while not client.admin.command("hello")["isWritablePrimary"]:
                assert time.monotonic() < end, "it has not become the primary"
                time.sleep(0.1)
        yield dsn
