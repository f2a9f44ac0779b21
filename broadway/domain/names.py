"""The pattern of the names of courses and assignments. Pure."""

COURSE_ID = r"^[A-Za-z0-9_-]+$"
