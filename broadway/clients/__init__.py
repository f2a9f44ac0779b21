"""Typed clients of the HTTP interface, by resource; `broadway/client.py` joins those of a course."""
