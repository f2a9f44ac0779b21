"""Sources of images: archives that an engine saves, and OCI layouts. Both provide an image's config and layers."""

import contextlib
import hashlib
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from broadway.grader.oci.compression import uncompressed
from broadway.grader.oci.entries import LayerError
from broadway.grader.sandbox.architectures import mismatch, normalized

REFERENCE = "org.opencontainers.image.ref.name"
NAME = "io.containerd.image.name"
_LARGEST_DOCUMENT = 4 * 1024 * 1024
MAX_LAYERS = 256  # half of the kernel's limit for overlays
_HEXADECIMAL = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Contents:
    """An image: its config, and a function for each layer that opens it, the lowest layer first."""

    config: Mapping[str, Any]
    layers: Sequence[Callable[[], AbstractContextManager[IO[bytes]]]]

    @property
    def diff_ids(self) -> list[str]:
        """The digests of the layers' archives, in hexadecimal.

        Raises:
            LayerError: The config does not have one for each layer.
        """
        root = self.config.get("rootfs")
        found = root.get("diff_ids") if isinstance(root, dict) else None
        if not isinstance(found, list) or len(found) != len(self.layers):
            raise LayerError("its config and its manifest have different layers")
        if len(found) > MAX_LAYERS:
            raise LayerError(f"it has {len(found)} layers; {MAX_LAYERS} may be")
        digests = [str(each).removeprefix("sha256:") for each in found]
        if wrong := next((each for each in digests if not _HEXADECIMAL.fullmatch(each)), None):
            raise LayerError(f"{wrong[:100]} is not a digest")
        return digests


@contextlib.contextmanager
def saved(path: Path) -> Iterator[Contents]:
    """Yield the one image in an archive of `docker save`.

    Raises:
        LayerError: The file is not a valid archive with one image.
    """
    try:
        with tarfile.open(path, mode="r:") as archive:
            (entry,) = json.loads(_member(archive, "manifest.json").read(_LARGEST_DOCUMENT))
            config = json.loads(_member(archive, entry["Config"]).read(_LARGEST_DOCUMENT))
            yield Contents(config, [_opener(partial(_member, archive, name)) for name in entry["Layers"]])
    except (tarfile.TarError, KeyError, ValueError) as error:
        raise LayerError(f"not an archive of an image: {error}") from error


def _member(archive: tarfile.TarFile, name: str) -> IO[bytes]:
    file = archive.extractfile(name)
    if file is None:
        raise LayerError(f"{name} is not a file")
    return file


@dataclass(frozen=True, slots=True)
class Layout:
    """A directory in the OCI image layout, version 1."""

    directory: Path

    def find(self, name: str, machine: str) -> str | None:
        """Return the id of an image, its config's digest, by the name in its index entry's annotations, or None.

        Raises:
            LayerError: The directory is not a valid layout, or the image is made for another architecture.
        """
        manifest = self._manifest(name, machine)
        if manifest is None:
            return None
        digest = str(_member_of(manifest, "config").get("digest"))
        config = self._document(digest)
        if problem := mismatch(f"{config.get('os') or ''}/{config.get('architecture') or ''}", machine):
            raise LayerError(problem)
        return digest

    @contextlib.contextmanager
    def open(self, name: str, machine: str) -> Iterator[Contents]:
        """Yield an image of the layout.

        Raises:
            LayerError: The layout has no such image, or the image is not well formed.
        """
        manifest = self._manifest(name, machine)
        if manifest is None:
            raise LayerError(f"{self.directory} has no image {name}")
        config = self._document(_member_of(manifest, "config").get("digest"))
        digests = [layer.get("digest") for layer in _objects(manifest, "layers")]
        yield Contents(config, [_opener(partial(_binary, self._blob(digest))) for digest in digests])

    def _manifest(self, name: str, machine: str) -> Mapping[str, Any] | None:
        index = self._json(self.directory / "index.json")
        for entry in _objects(index, "manifests"):
            annotations = _member_of(entry, "annotations")
            if name in (annotations.get(NAME), annotations.get(REFERENCE)):
                return self._select_manifest(self._document(entry.get("digest")), machine)
        return None

    def _select_manifest(self, document: Mapping[str, Any], machine: str) -> Mapping[str, Any]:
        """Return the manifest for a machine, if the document is an index of several; else the document itself."""
        if "manifests" not in document:
            return document
        entries = _objects(document, "manifests")
        found = {str(_member_of(entry, "platform").get("architecture")): entry for entry in entries}
        architecture = normalized(machine)
        if architecture in found:
            return self._document(found[architecture].get("digest"))
        made_for = ", ".join(sorted(map(str, found)))[:200]
        raise LayerError(f"it is made for {made_for}, and this grader's host is linux/{architecture}")

    def _document(self, digest: object) -> Mapping[str, Any]:
        return self._json(self._blob(digest), digest=str(digest))

    def _blob(self, digest: object) -> Path:
        algorithm, _, value = str(digest).partition(":")
        if not (algorithm.isalnum() and value.isalnum()):
            raise LayerError(f"{str(digest)[:100]} is not a digest")
        return self.directory / "blobs" / algorithm / value

    def _json(self, path: Path, digest: str = "") -> Mapping[str, Any]:
        try:
            with path.open("rb") as file:
                content = file.read(_LARGEST_DOCUMENT + 1)
            if len(content) > _LARGEST_DOCUMENT:
                raise LayerError(f"{path}: has more than {_LARGEST_DOCUMENT} bytes")
            document = json.loads(content)
        except (OSError, ValueError, RecursionError) as error:
            raise LayerError(f"{path}: {error}") from error
        if digest.startswith("sha256:") and f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
            raise LayerError(f"{path}: its content has another digest")
        if not isinstance(document, dict):
            raise LayerError(f"{path}: is not a JSON object")
        return document


def _member_of(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an object within a document; an empty one if it is missing or something else."""
    found = document.get(name)
    return found if isinstance(found, dict) else {}


def _objects(document: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Return the objects of a list within a document."""
    found = document.get(name)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _binary(path: Path) -> IO[bytes]:
    return path.open("rb")


def _opener(opened: Callable[[], IO[bytes]]) -> Callable[[], AbstractContextManager[IO[bytes]]]:
    return lambda: uncompressed(opened())
