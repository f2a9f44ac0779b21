from collections import Counter


def count(text):
    return len(text.split())


def most_frequent(text, number):
    return [word for word, _ in Counter(text.split()).most_common(number)]
