"""The engine's network for stages that have one: its containers reach the outside, but not one another."""

from http import HTTPStatus

from docker.errors import APIError, NotFound

from broadway.domain.job import FaultPhase
from broadway.grader.docker.engine import ENGINE_ERRORS, Client
from broadway.grader.ports import ContainerError

NAME = "broadway-stages"
DEFAULT = "bridge"  # the engine's name of its default network
_BETWEEN = "com.docker.network.bridge.enable_icc"  # whether containers reach one another


def find(client: Client) -> str | None:
    """Return the name of the network, made on first use; None for the engine's default network, if that does it too.

    Raises:
        ContainerError: The network does not exist and cannot be made.
    """
    try:
        if _separates(client, DEFAULT):
            return None
        ensure(client)
        if _separates(client, NAME):
            return NAME
        reason = f"the engine's network {NAME} lets containers reach one another: remove it, and it is made anew"
    except ENGINE_ERRORS as error:
        reason = f"the engine's network {NAME} cannot be made: {error}"[:400]
    advice = "or choose a network with --stage-network, or give stages none with --no-network"
    raise ContainerError(f"{reason}, {advice}", phase=FaultPhase.CREATE, retryable=True)


def ensure(client: Client) -> None:
    """Make the network unless it exists: what cleans up an engine may have removed it."""
    try:
        client.inspect_network(NAME)
    except NotFound:
        try:
            client.create_network(NAME, driver="bridge", options={_BETWEEN: "false"}, check_duplicate=True)
        except APIError as error:
            if error.status_code != HTTPStatus.CONFLICT:  # another grader has just made it
                raise


def _separates(client: Client, name: str) -> bool:
    """Return True if a network keeps its containers apart. An engine's default network may not exist."""
    try:
        options = client.inspect_network(name).get("Options") or {}
    except NotFound:
        return name == DEFAULT
    return str(options.get(_BETWEEN, "true")).lower() == "false"
