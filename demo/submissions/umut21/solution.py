def evaluate(text):
    value, rest = expression(text.replace(" ", ""))
    if rest
        raise ValueError("left over")
    return value


def expression(text):
    value, text = term(text)
    while text and text[0] in "+-":
        right, after = term(text[1:])
        value = value + right if text[0] == "+" else value - right
        text = after
    return value, text
