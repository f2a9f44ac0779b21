def count(text):
    return len(text.split(" "))  # an empty text has one part


def most_frequent(text, number):
    words = text.split()
    return sorted(set(words), key=words.count, reverse=True)[:number]
