"""Artifacts as resources."""

from broadway.domain.artifacts import Manifest
from broadway.messages.resources.artifacts import ArtifactsView, ArtifactView, LeftOutView


def artifacts_view(job: str, attempt: str | None, manifest: Manifest | None) -> ArtifactsView:
    files = manifest.files if manifest else ()
    return ArtifactsView(
        job=job,
        attempt=attempt,
        files=[ArtifactView(path=each.path, stage=each.stage, size=each.size, sha256=each.sha256) for each in files],
        left_out=[LeftOutView(path=each.path, reason=each.reason) for each in (manifest.left_out if manifest else ())],
        left_out_more=manifest.left_out_more if manifest else 0,
        expires_at=manifest.expires_at if manifest else None,
    )
