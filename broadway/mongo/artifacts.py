"""The collection ``artifact``: for each execution that has artifacts, the manifest of their contents."""

from collections.abc import Set as AbstractSet
from datetime import datetime

from broadway.domain.artifacts import Artifact, LeftOut, Manifest, manifest_id
from broadway.mongo.blobs import used_contents
from broadway.mongo.collection import Collection, Document, Documents, insert_each


class ArtifactStore:
    """Manifests of artifacts by job, generation and execution."""

    def __init__(self, collection: Collection) -> None:
        self._manifests = Documents(collection)

    async def ensure_indexes(self) -> None:
        await self._manifests.create_index("job", name="of_job")
        await self._manifests.create_index("files.sha256", name="contents")
        await self._manifests.create_index("expires_at", name="to_remove")

    async def add(self, manifest: Manifest) -> bool:
        """Store a manifest; return False if its execution has one of its grader."""
        return (await insert_each(self._manifests, [_document(manifest)]))[0]

    async def get(self, job: str, generation: int, execution: str, grader: str) -> Manifest | None:
        found = await self._manifests.find_one({"_id": manifest_id(job, generation, execution, grader)})
        return _manifest(found) if found else None

    async def executions(self, job: str, *, limit: int) -> list[str]:
        """Return the executions of a job that have manifests, ``limit`` at most."""
        found = await self._manifests.find({"job": job}, {"execution": 1}, limit=limit)
        return [document["execution"] for document in found]

    async def used(self, digests: AbstractSet[str]) -> set[str]:
        """Return the digests of contents that artifacts have."""
        return await used_contents(self._manifests, digests)

    async def expire(self, now: datetime) -> int:
        """Remove the manifests whose time is over; return their number."""
        return (await self._manifests.delete_many({"expires_at": {"$lte": now}})).deleted_count


def _document(manifest: Manifest) -> Document:
    return {
        "_id": manifest.id,
        "job": manifest.job,
        "generation": manifest.generation,
        "execution": manifest.execution,
        "grader": manifest.grader,
        "at": manifest.at,
        "expires_at": manifest.expires_at,
        "files": [
            {"path": each.path, "stage": each.stage, "sha256": each.sha256, "size": each.size}
            for each in manifest.files
        ],
        "left_out": [{"path": each.path, "reason": each.reason} for each in manifest.left_out],
        "left_out_more": manifest.left_out_more,
    }


def _manifest(document: Document) -> Manifest:
    return Manifest(
        job=document["job"],
        generation=document["generation"],
        execution=document["execution"],
        grader=document["grader"],
        at=document["at"],
        expires_at=document["expires_at"],
        files=tuple(Artifact(each["path"], each["stage"], each["sha256"], each["size"]) for each in document["files"]),
        left_out=tuple(LeftOut(each["path"], each["reason"]) for each in document.get("left_out", ())),
        left_out_more=document.get("left_out_more", 0),
    )
