def evaluate(text):
    return compute(tokens(text))


def tokens(text):
    result, number = [], ""
    for char in text + " ":
        if char.isdigit():
            number += char
            continue
        if number:
            result.append(int(number))
            number = ""
        if char in "+-*/()":
            result.append(char)
        elif char != " ":
            raise ValueError("unknown character " + char)
    return result


def compute(parts):
    for operators in ("+-", "*/"):
        at = last(parts, operators)
        if at is not None:
            left, right = compute(parts[:at]), compute(parts[at + 1 :])
            if parts[at] == "+":
                return left + right
            if parts[at] == "-":
                return left - right
            if parts[at] == "*":
                return left * right
            if right == 0:
                raise ZeroDivisionError("division by zero")
            exact = abs(left) // abs(right)
            return exact if left * right >= 0 else -exact
    if not parts:
        raise ValueError("operand missing")
    if parts[0] == "-":
        return -compute(parts[1:])
    if parts[0] == "(" and parts[-1] == ")" and len(parts) > 2:
        return compute(parts[1:-1])
    if len(parts) == 1 and isinstance(parts[0], int):
        return parts[0]
    raise ValueError("not an expression")


def last(parts, operators):
    """The last binary operator of these outside all parentheses."""
    depth, found = 0, None
    for at, part in enumerate(parts):
        if part == "(":
            depth += 1
        elif part == ")":
            depth -= 1
            if depth < 0:
                raise ValueError(") without (")
        elif depth == 0 and isinstance(part, str) and part in operators and at > 0:
            before = parts[at - 1]
            if isinstance(before, int) or before == ")":
                found = at
    if depth:
        raise ValueError("( without )")
    return found
