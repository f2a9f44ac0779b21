"""Runs the checks, as Gradescope's own sample does."""

import unittest

from gradescope_utils.autograder_utils.json_test_runner import JSONTestRunner

suite = unittest.defaultTestLoader.discover("checks", pattern="check_*.py")
with open("/autograder/results/results.json", "w") as results:  # noqa: PTH123 - as in the sample
    JSONTestRunner(visibility="visible", stdout_visibility="hidden", stream=results).run(suite)
