import re

PRIORITY = {"(": 0, "+": 1, "-": 1, "*": 2, "/": 2}


def evaluate(text):
    values, operators = [], []
    for token in re.findall(r"\d+|\S", text):
        if token.isdigit():
            values.append(int(token))
        elif token == "(":
            operators.append(token)
        elif token == ")":
            while operators[-1] != "(":
                step(values, operators)
            operators.pop()
        else:
            while operators and PRIORITY[operators[-1]] >= PRIORITY[token]:
                step(values, operators)
            operators.append(token)
    while operators:
        step(values, operators)
    return values.pop()


def step(values, operators):
    operator = operators.pop()
    right = values.pop()
    left = values.pop()
    table = {
        "+": lambda: left + right,
        "-": lambda: left - right,
        "*": lambda: left * right,
        "/": lambda: abs(left) // abs(right) * (1 if left * right >= 0 else -1),
    }
    values.append(table[operator]())
