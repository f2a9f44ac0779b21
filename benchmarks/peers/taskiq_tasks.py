"""taskiq over RabbitMQ, with its defaults: quorum queues, acknowledged when executed, no results."""

import os
import socket
import time

from taskiq_aio_pika import AioPikaBroker, Exchange, Queue

_name = os.environ["BENCH_QUEUE"]
broker = AioPikaBroker(
    os.environ["BENCH_AMQP_URL"],
    exchange=Exchange(name=_name),
    task_queues=[Queue(name=_name)],
)
_listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


@broker.task
async def nothing() -> None:
    """Report the start time, and do nothing else."""
    _listener.sendto(f"{time.time():f}".encode(), os.environ["BENCH_LISTENER"])
