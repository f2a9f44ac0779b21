"""Broadway: a distributed grading service for university courses."""

__version__ = "0.1.0"  # the only place: the wheel, the checkout and the image read it here
