"""Connections that bring jobs to a grader: the broker, HTTP polling, or a WebSocket."""
