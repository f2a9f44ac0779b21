def count(text):
    raise NotImplementedError


def most_frequent(text, number):
    return []
