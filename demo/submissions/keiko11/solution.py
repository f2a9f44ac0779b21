import re

NUMBER = r"\s*(~?\d+)\s*"  # ~ stands for a minus sign that belongs to a number


def number(text):
    return -int(text[1:]) if text[0] == "~" else int(text)


def show(value):
    return f"~{-value}" if value < 0 else str(value)


def compute(a, op, b):
    a, b = number(a), number(b)
    if op == "+":
        return a + b
    if op == "-":
        return a - b
    if op == "*":
        return a * b
    return abs(a) // abs(b) * (-1 if (a < 0) != (b < 0) else 1)


def negate(text):
    """Turn signs in front of numbers into parts of the numbers."""
    pattern = re.compile(r"(^|[-+*/])(\s*)-\s*(~?)(\d+)")
    while (new := pattern.sub(lambda m: m[1] + m[2] + ("" if m[3] else "~") + m[4], text)) != text:
        text = new
    return text


def flat(text):
    """An expression without parentheses, as a number."""
    text = negate(text)
    for operators in ("*/", "-+"):
        pattern = re.compile(NUMBER + f"([{operators}])" + NUMBER)
        while True:
            text, done = pattern.subn(lambda m: show(compute(m[1], m[2], m[3])), text, count=1)
            if not done:
                break
    text = text.strip()
    if not re.fullmatch(r"~?\d+", text):
        raise ValueError("not an expression")
    return text


def evaluate(text):
    if re.search(r"[^-+*/() \d]", text):
        raise ValueError("unknown character")
    while "(" in text or ")" in text:
        inner = re.search(r"\(([^()]*)\)", text)
        if not inner or re.search(r"[\d)~]\s*$", text[: inner.start()]) or re.match(r"\s*[\d(~]", text[inner.end() :]):
            raise ValueError("parentheses do not fit")
        text = text[: inner.start()] + flat(inner[1]) + text[inner.end() :]
    return number(flat(text))
