"""Readers of the formats in which autograders write their results: bytes to reports, or an error."""
