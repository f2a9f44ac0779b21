"""The dispatcher service: pace jobs fairly between courses, and repair lost work."""
