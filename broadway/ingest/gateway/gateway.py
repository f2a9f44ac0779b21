"""The gateway of one API process: graders that cannot reach the broker take jobs and report results through it."""

from dataclasses import dataclass

from broadway.ingest.gateway.handouts import Handouts
from broadway.ingest.gateway.results import Results
from broadway.ingest.gateway.sessions import Sessions


@dataclass(frozen=True, slots=True)
class Gateway:
    """The parts of the gateway, by task."""

    sessions: Sessions
    handouts: Handouts
    results: Results
