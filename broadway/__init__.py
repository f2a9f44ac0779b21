"""Broadway: a distributed grading service for university courses."""

__version__: str


def __getattr__(name: str) -> str:
    """Look the version up when somebody asks for it: importing what finds it takes longer than a command's help."""
    if name != "__version__":
        raise AttributeError(name)
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415

    try:
        return version("broadway")
    except PackageNotFoundError:  # running from a checkout that was not installed
        return "0.0.0"
