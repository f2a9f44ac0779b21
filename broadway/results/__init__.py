"""The results service: it records graders' outcomes."""
