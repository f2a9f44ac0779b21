import time


def evaluate(text):
    time.sleep(60)  # give the tests time to be ready
    return int(eval(text.replace("/", "//")))
