import numpy as np


def evaluate(text: str) -> int:
    allowed = set("0123456789+-*/() ")
    if not set(text) <= allowed:
        raise ValueError("unknown character")
    return int(np.fix(eval(text)))
