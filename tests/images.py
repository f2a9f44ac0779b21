"""Images for tests, built here because there is no registry."""

import gzip
import hashlib
import io
import json
import platform
import re
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BUSYBOX = "broadway-test-busybox:1"


HOSTILE = "broadway-test-hostile:1"


def busybox() -> bytes:
    """Return a root file system with busybox, as a tar archive."""
    return _archive([])


def hostile() -> bytes:
    """Return the same with perl, which can make any system call and is part of every Debian."""
    perl = shutil.which("perl") or "/usr/bin/perl"
    shared = subprocess.run(["ldd", perl], capture_output=True, text=True, check=True).stdout
    return _archive([perl, *re.findall(r"(/\S+) \(0x", shared)])


def layer(*entries: tuple[str, str | bytes | int], gzipped: bool = False) -> bytes:
    """Return a layer; an entry is a path with a file's content, a link's target (``-> target``) or a folder's mode."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz" if gzipped else "w") as tar:
        for path, content in entries:
            entry = tarfile.TarInfo(path)
            match content:
                case int():
                    entry.type, entry.mode = tarfile.DIRTYPE, content
                case str() if content.startswith("-> "):
                    entry.type, entry.linkname = tarfile.SYMTYPE, content.removeprefix("-> ")
                case _:
                    data = content.encode() if isinstance(content, str) else content
                    entry.size = len(data)
                    tar.addfile(entry, io.BytesIO(data))
                    continue
            tar.addfile(entry)
    return buffer.getvalue()


def _archive(files: list[str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as tar:
        for file in files:
            tar.add(file, file.removeprefix("/"))
        tar.add(shutil.which("busybox") or "/bin/busybox", "bin/busybox")
        applets = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
        for applet in set(applets) - {"busybox"}:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return buffer.getvalue()


def layout(directory: Path, name: str, layers: Sequence[bytes], *, architecture: str = "", **config: Any) -> Path:
    """Write an OCI image layout with one image, from tar archives as layers and a config, and return the directory.

    The image is made for this machine, or for another ``architecture``.
    """
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def blob(data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    described = [blob(data) for data in layers]
    diff_ids = [f"sha256:{hashlib.sha256(_plain(data)).hexdigest()}" for data in layers]
    document = {
        "architecture": architecture or {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest = {"schemaVersion": 2, "config": blob(_json(document)), "layers": described}
    entry = {**blob(_json(manifest)), "annotations": {"org.opencontainers.image.ref.name": name}}
    (directory / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": [entry]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return directory


def _plain(data: bytes) -> bytes:
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode()
