"""Broadway: a distributed grading service for university courses."""

__version__: str


def __getattr__(name: str) -> str:
    """Look up ``__version__`` on first use, since importing importlib.metadata takes longer than printing help."""
    if name != "__version__":
        raise AttributeError(name)
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return version("broadway")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0.0.0"
