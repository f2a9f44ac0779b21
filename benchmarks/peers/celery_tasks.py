"""Celery as its documentation advises for work that must not be lost: acks late, publisher confirms.

``BENCH_RESULTS`` names a MongoDB database for results; without it there are none.
"""

import os
import socket
import time

from celery import Celery

app = Celery("tasks", broker=os.environ["BENCH_AMQP_URL"], backend=os.environ.get("BENCH_RESULTS") or None)
app.conf.update(
    task_acks_late=True,
    task_ignore_result="BENCH_RESULTS" not in os.environ,
    task_default_queue=os.environ["BENCH_QUEUE"],
    broker_transport_options={"confirm_publish": True},
    broker_connection_retry_on_startup=True,
    worker_hijack_root_logger=False,
)
_listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


@app.task
def nothing() -> None:
    """Tell when it has begun, and be over."""
    _listener.sendto(f"{time.time():f}".encode(), os.environ["BENCH_LISTENER"])
