def evaluate(text):
    for char in "+-*/()":
        text = text.replace(char, " " + char + " ")
    while "  " in text:
        text = text.replace(" ", "  ")
    parts = text.strip().split(" ")
    value = int(parts[0])
    for operator, number in zip(parts[1::2], parts[2::2]):
        if operator == "+":
            value += int(number)
        elif operator == "-":
            value -= int(number)
        elif operator == "*":
            value *= int(number)
        else:
            value = int(value / int(number))
    return value
