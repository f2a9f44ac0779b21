"""The settings and errors of commands that need RabbitMQ's management API and the store."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from broadway.cli.common import EXIT_USAGE, fail

if TYPE_CHECKING:
    from broadway.settings.programs import ApiSettings

Arguments = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="ARGUMENTS", help="Arguments of python -m broadway.api: --amqp-url, --management-url, --mongodb-dsn ..."
    ),
]
PASSED_ON = {"ignore_unknown_options": True}


def settings_of(arguments: Sequence[str] | None) -> "ApiSettings":
    """Return the settings of the API with further arguments."""
    from broadway.settings.loading import load  # noqa: PLC0415 - --help must not wait for it
    from broadway.settings.programs import ApiSettings  # noqa: PLC0415

    return load(ApiSettings, prog="python -m broadway.api", arguments=arguments or [])


def management_of(settings: "ApiSettings") -> str:
    """Return the address of the management API; exit if it is not set."""
    if settings.management_url is None:
        where = "--management-url or BROADWAY_MANAGEMENT_URL, as in http://user:password@host:15672"
        raise fail(f"management_url is missing: {where}, with an administrator's login", EXIT_USAGE)
    return settings.management_url.get_secret_value()


@contextmanager
def failures() -> Iterator[None]:
    """Exit with the reason if the broker or the store refuses or does not answer. Warnings are logged to stderr."""
    import structlog  # noqa: PLC0415 - as above

    from broadway.management import ManagementError  # noqa: PLC0415
    from broadway.mongo.errors import StoreUnreachableError  # noqa: PLC0415
    from broadway.ports import StoreError  # noqa: PLC0415

    structlog.configure(logger_factory=structlog.stdlib.LoggerFactory())
    try:
        yield
    except (ManagementError, StoreUnreachableError, StoreError) as error:
        raise fail(str(error)) from error
