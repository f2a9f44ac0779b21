def evaluate(text):
    value, at = add(text, 0)
    at = skip(text, at)
    if at != len(text):
        raise ValueError("cannot read on at %d" % at)
    return value


def skip(text, at):
    while at < len(text) and text[at] == " ":
        at += 1
    return at


def add(text, at):
    value, at = mul(text, at)
    while (at := skip(text, at)) < len(text) and text[at] in "+-":
        right, after = mul(text, at + 1)
        value = value + right if text[at] == "+" else value - right
        at = after
    return value, at


def mul(text, at):
    value, at = unit(text, at)
    while (at := skip(text, at)) < len(text) and text[at] in "*/":
        right, after = unit(text, at + 1)
        if text[at] == "*":
            value = value * right
        elif value * right < 0:
            value = -(-value // right)
        else:
            value = value // right
        at = after
    return value, at


def unit(text, at):
    at = skip(text, at)
    if text[at : at + 1] == "-":
        value, at = unit(text, at + 1)
        return -value, at
    if text[at : at + 1] == "(":
        value, at = add(text, at + 1)
        at = skip(text, at)
        if text[at : at + 1] != ")":
            raise ValueError("no ) at %d" % at)
        return value, at + 1
    end = at
    while end < len(text) and text[end].isdigit():
        end += 1
    if end == at:
        raise ValueError("no number at %d" % at)
    return int(text[at:end]), end
