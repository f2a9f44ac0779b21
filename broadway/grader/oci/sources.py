"""Sources of images: archives that an engine saves, and OCI layouts. Both provide an image's config and layers."""

import contextlib
import gzip
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from broadway.grader.oci.layers import LayerError
from broadway.grader.sandbox.architectures import mismatch, normalized

REFERENCE = "org.opencontainers.image.ref.name"
NAME = "io.containerd.image.name"
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_LARGEST_DOCUMENT = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Contents:
    """An image: its config, and a function for each layer that opens it, the lowest layer first."""

    config: Mapping[str, Any]
    layers: Sequence[Callable[[], AbstractContextManager[IO[bytes]]]]

    @property
    def diff_ids(self) -> list[str]:
        """The digests of the layers' archives, in hexadecimal."""
        return [str(diff_id).removeprefix("sha256:") for diff_id in self.config["rootfs"]["diff_ids"]]


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
        digest = str(manifest["config"]["digest"])
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
        config = self._document(manifest["config"]["digest"])
        digests = [layer["digest"] for layer in manifest["layers"]]
        yield Contents(config, [_opener(partial(_binary, self._blob(digest))) for digest in digests])

    def _manifest(self, name: str, machine: str) -> Mapping[str, Any] | None:
        index = self._json(self.directory / "index.json")
        for entry in index.get("manifests", ()):
            annotations = entry.get("annotations", {})
            if name in (annotations.get(NAME), annotations.get(REFERENCE)):
                return self._select_manifest(self._document(entry["digest"]), machine)
        return None

    def _select_manifest(self, document: Mapping[str, Any], machine: str) -> Mapping[str, Any]:
        """Return the manifest for a machine, if the document is an index of several; else the document itself."""
        if "manifests" not in document:
            return document
        found = {entry.get("platform", {}).get("architecture"): entry for entry in document["manifests"]}
        architecture = normalized(machine)
        if architecture in found:
            return self._document(found[architecture]["digest"])
        made_for = ", ".join(sorted(map(str, found)))[:200]
        raise LayerError(f"it is made for {made_for}, and this grader's host is linux/{architecture}")

    def _document(self, digest: str) -> Mapping[str, Any]:
        return self._json(self._blob(digest))

    def _blob(self, digest: str) -> Path:
        algorithm, _, value = digest.partition(":")
        if not (algorithm.isalnum() and value.isalnum()):
            raise LayerError(f"{digest} is not a digest")
        return self.directory / "blobs" / algorithm / value

    def _json(self, path: Path) -> Mapping[str, Any]:
        try:
            document = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise LayerError(f"{path}: {error}") from error
        if not isinstance(document, dict):
            raise LayerError(f"{path}: is not a JSON object")
        return document


def _binary(path: Path) -> IO[bytes]:
    return path.open("rb")


def _opener(opened: Callable[[], IO[bytes]]) -> Callable[[], AbstractContextManager[IO[bytes]]]:
    return lambda: _uncompressed(opened())


@contextlib.contextmanager
def _uncompressed(file: IO[bytes]) -> Iterator[IO[bytes]]:
    with file:
        magic = file.read(len(_ZSTD))
        file.seek(0)
        if magic == _ZSTD:
            raise LayerError("a layer is compressed with zstd; only gzip is supported")
        if magic.startswith(_GZIP):
            with gzip.open(file) as plain:
                yield plain  # type: ignore[misc]
        else:
            yield file
