def evaluate(text):
    position = 0
    while position < len(text):
        print("looking at position", position, "of", repr(text), "where there is", repr(text[position]))
        if text[position] == "+":
            position += 1
    return position
