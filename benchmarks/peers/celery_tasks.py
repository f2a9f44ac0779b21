"""Celery as its documentation recommends for work that must not be lost: late acknowledgments, publisher confirms.

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
    """Report the start time, and do nothing else."""
    _listener.sendto(f"{time.time():f}".encode(), os.environ["BENCH_LISTENER"])
