def count(text):
    return len(text.split())


def most_frequent(text, number):
    words = text.split()
    return [max(set(words), key=words.count)] * number
