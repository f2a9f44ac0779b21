"""Tests with weights, a partial score, and one that is hidden from students."""

import unittest

import words
from gradescope_utils.autograder_utils.decorators import number, partial_credit, visibility, weight

TEXT = "the cat and the hat and the bat"


class TestWords(unittest.TestCase):
    @weight(3)
    @number("1")
    def test_count(self):
        """Words are counted"""
        self.assertEqual(words.count(TEXT), 8)

    @partial_credit(4)
    @number("2")
    def test_most_frequent(self, set_score=None):
        """The most frequent words come first"""
        wanted, found = ["the", "and"], list(words.most_frequent(TEXT, 2))
        set_score(2 * sum(one == other for one, other in zip(wanted, found, strict=False)))

    @weight(3)
    @number("3")
    @visibility("hidden")
    def test_empty(self):
        """A text may be empty"""
        self.assertEqual(words.count(""), 0)
