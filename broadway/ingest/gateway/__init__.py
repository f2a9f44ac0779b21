"""Graders that cannot reach the broker and work through the API, free of HTTP."""
