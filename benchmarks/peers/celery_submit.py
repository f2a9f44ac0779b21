"""Submit tasks: each line of the input has a number of tasks. Print the time before submitting them."""

import sys
import time

from celery_tasks import app, nothing

with app.producer_pool.acquire(block=True) as producer:
    producer.connection.ensure_connection()
    for line in sys.stdin:
        print(f"{time.time():f}", flush=True)
        for _ in range(int(line)):
            nothing.apply_async(producer=producer)
