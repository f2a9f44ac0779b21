"""Submits tasks: as many as a line of its input says, and before that prints when it begins."""

import sys
import time

from celery_tasks import app, nothing

with app.producer_pool.acquire(block=True) as producer:
    producer.connection.ensure_connection()
    for line in sys.stdin:
        print(f"{time.time():f}", flush=True)
        for _ in range(int(line)):
            nothing.apply_async(producer=producer)
