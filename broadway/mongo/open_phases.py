"""Whether phases of runs are open, which is asked after every outcome, however many jobs a run has.

A store may read all open jobs of a run to return one of them. So an open job of each phase is remembered, the last one
of the roster, since the jobs start in the roster's order: as long as it is open, its state is all that has to be read.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from broadway.domain.job import JobState, Phase
from broadway.mongo.collection import Document, Documents
from broadway.mongo.job_documents import PHASE, TYPE

REMEMBERED = 5000  # phases
_SAMPLED = 10  # open jobs to read per phase, when many phases are checked
_UNFINISHED = [state.value for state in JobState if state is not JobState.FINISHED]
_FIELDS = {"grading_run_id": 1, "type": 1, "state": 1}
_LAST_FIRST = [("index", -1)]

RunPhase = tuple[str, Phase]


class OpenPhases:
    """Finds open phases, and remembers an open job of each."""

    def __init__(self, jobs: Documents) -> None:
        self._jobs = jobs
        self._witnesses: OrderedDict[RunPhase, Any] = OrderedDict()

    async def among(self, phases: Iterable[RunPhase]) -> set[RunPhase]:
        """Return those of some phases that have a stored job which has not finished."""
        asked = set(phases)
        are_open = await self._witnessed(asked)
        rest = sorted(asked - are_open)
        return are_open | await self._found(rest) if rest else are_open

    async def _witnessed(self, asked: Iterable[RunPhase]) -> set[RunPhase]:
        """Return the phases whose remembered job is still open; forget the others."""
        known = {phase: self._witnesses.pop(phase) for phase in asked if phase in self._witnesses}
        if not known:
            return set()
        found = await self._jobs.find({"_id": {"$in": list(known.values())}}, _FIELDS)
        return self._remember(document for document in found if document["state"] in _UNFINISHED)

    async def _found(self, phases: Sequence[RunPhase]) -> set[RunPhase]:
        query = {"grading_run_id": {"$in": sorted({run_id for run_id, _ in phases})}, "state": {"$in": _UNFINISHED}}
        limit = _SAMPLED * len(phases)
        found = await self._jobs.find(query, _FIELDS, sort=_LAST_FIRST, limit=limit)
        are_open = self._remember(found)
        if len(found) == limit:  # runs with many jobs may have displaced other runs
            for run_id, phase in set(phases) - are_open:
                alone = {"grading_run_id": run_id, "state": {"$in": _UNFINISHED}, "type": TYPE[phase]}
                are_open |= self._remember(await self._jobs.find(alone, _FIELDS, sort=_LAST_FIRST, limit=1))
        return are_open

    def _remember(self, documents: Iterable[Document]) -> set[RunPhase]:
        """Remember the first open job of each phase; return the phases."""
        found: dict[RunPhase, Any] = {}
        for document in documents:
            found.setdefault((document["grading_run_id"], PHASE[document["type"]]), document["_id"])
        self._witnesses |= found
        while len(self._witnesses) > REMEMBERED:
            self._witnesses.popitem(last=False)
        return set(found)
