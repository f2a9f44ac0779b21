import re


class Number:
    def __init__(self, value):
        self.value = value

    def __add__(self, other):
        return Number(self.value + other.value)

    def __sub__(self, other):
        return Number(self.value - other.value)

    def __mul__(self, other):
        return Number(self.value * other.value)

    def __truediv__(self, other):
        quotient = abs(self.value) // abs(other.value)
        if (self.value < 0) != (other.value < 0):
            quotient = -quotient
        return Number(quotient)

    def __neg__(self):
        return Number(-self.value)


def evaluate(text):
    if not re.fullmatch(r"[-+*/() 0-9]*", text) or "//" in text or "**" in text:
        raise ValueError("not an expression")
    code = re.sub(r"[0-9]+", lambda match: f"Number({match[0]})", text.strip())
    try:
        return eval(code).value
    except (SyntaxError, TypeError, AttributeError):
        raise ValueError("not an expression")
