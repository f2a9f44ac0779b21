"""Ids by their beginnings, for people who type them."""

from broadway.messages.resources.base import View

MIN_PREFIX = 6  # digits; shorter beginnings would fit many ids by chance


class IdsView(View):
    """The ids of a course's runs and jobs that begin with some digits."""

    runs: list[str]
    jobs: list[str]
