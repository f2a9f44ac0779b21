"""The owners of an engine's containers."""

from collections.abc import Mapping
from typing import Any

from broadway.grader.docker.engine import Client, is_local
from broadway.grader.ports import Owner
from broadway.grader.sandbox.process_identity import booted_at
from broadway.grader.sandbox.profile import LABEL


def owned_containers(client: Client) -> list[tuple[Mapping[str, Any], Owner]]:
    """Return all containers of graders, as the engine lists them, each with its owner; blocks."""
    booted = booted_at() if is_local(client) else 0.0
    listed = client.containers(all=True, filters={"label": [f"{LABEL}grader"]})
    return [(each, _owner(each, booted)) for each in listed]


def _owner(listed: Mapping[str, Any], booted: float) -> Owner:
    """Return the owner of a listed container; ``booted`` is the boot time of the engine's host, 0 if it is unknown."""
    labels = listed["Labels"]
    return Owner(
        identity=labels.get(f"{LABEL}boot", ""),
        grader_id=labels[f"{LABEL}grader"],
        deployment=labels.get(f"{LABEL}deployment", ""),
        before_boot=listed["Created"] < booted,
    )
