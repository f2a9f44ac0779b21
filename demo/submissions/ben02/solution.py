import re

RANK = {"+": 1, "-": 1, "*": 2, "/": 2, "neg": 3}


def apply(operators, values):
    op = operators.pop()
    if op == "neg":
        values.append(-values.pop())
        return
    b, a = values.pop(), values.pop()
    if op == "+":
        values.append(a + b)
    elif op == "-":
        values.append(a - b)
    elif op == "*":
        values.append(a * b)
    else:
        q, r = divmod(a, b)
        values.append(q + 1 if q < 0 and r != 0 else q)


def evaluate(text):
    if re.search(r"[^-+*/() 0-9]", text):
        raise ValueError("strange character")
    operators, values = [], []
    operand_next = True
    for token in re.findall(r"\d+|\S", text):
        if operand_next:
            if token.isdigit():
                values.append(int(token))
                operand_next = False
            elif token == "(":
                operators.append("(")
            elif token == "-":
                operators.append("neg")
            else:
                raise ValueError("operand expected")
        elif token in ("+", "-", "*", "/"):
            while operators and operators[-1] != "(" and RANK[operators[-1]] >= RANK[token]:
                apply(operators, values)
            operators.append(token)
            operand_next = True
        elif token == ")":
            while operators and operators[-1] != "(":
                apply(operators, values)
            if not operators:
                raise ValueError("unexpected )")
            operators.pop()
        else:
            raise ValueError("operator expected")
    if operand_next:
        raise ValueError("ends too early")
    while operators:
        if operators[-1] == "(":
            raise ValueError("missing )")
        apply(operators, values)
    return values[0]
