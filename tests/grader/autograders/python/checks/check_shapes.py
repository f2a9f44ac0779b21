"""Checks of a student's module."""

import unittest

import shapes
from gradescope_utils.autograder_utils.decorators import (
    hide_errors,
    leaderboard,
    number,
    partial_credit,
    tags,
    visibility,
    weight,
)


class Shapes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        shapes.prepare()

    @weight(2)
    @number("1.2")
    @tags("areas")
    def test_square(self):
        """Area of a square"""
        self.assertEqual(shapes.square(3), 9)

    @weight(3)
    @number("1.10")
    @visibility("hidden")
    def test_secret(self):
        """A secret square"""
        self.assertEqual(shapes.square(-1), 1)

    @partial_credit(10)
    @number("2")
    def test_circle(self, set_score=None):
        """Area of a circle"""
        set_score(4.2)

    @weight(1)
    @number("3")
    @hide_errors("Not today")
    @visibility("after_due_date")
    def test_cube(self):
        """Volume of a cube"""
        self.assertEqual(shapes.cube(2), 8)

    @leaderboard("runtime", "asc")
    def test_speed(self, set_leaderboard_value=None):
        """Speed"""
        set_leaderboard_value(1.5)

    @weight(5)
    @unittest.skip("in spring")
    def test_skipped(self):
        """Not counted"""
