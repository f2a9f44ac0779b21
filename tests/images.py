"""Images that tests run, made here: there is no registry."""

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
    """A root file system, as a tar archive."""
    return _archive([])


def hostile() -> bytes:
    """The same with perl, in which any system call can be made; every Debian has it."""
    perl = shutil.which("perl") or "/usr/bin/perl"
    shared = subprocess.run(["ldd", perl], capture_output=True, text=True, check=True).stdout
    return _archive([perl, *re.findall(r"(/\S+) \(0x", shared)])


def layer(*entries: tuple[str, str | bytes | int], gzipped: bool = False) -> bytes:
    """A layer, of paths with a file's content, a symbolic link's target (``-> target``) or a directory's mode."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz" if gzipped else "w") as tar:
        for path, what in entries:
            entry = tarfile.TarInfo(path)
            match what:
                case int():
                    entry.type, entry.mode = tarfile.DIRTYPE, what
                case str() if what.startswith("-> "):
                    entry.type, entry.linkname = tarfile.SYMTYPE, what.removeprefix("-> ")
                case _:
                    data = what.encode() if isinstance(what, str) else what
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


def layout(directory: Path, name: str, layers: Sequence[bytes], **config: Any) -> Path:
    """An OCI image layout with one image, of layers that are tar archives and with such a config; the directory."""
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def blob(data: bytes) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        return {"digest": f"sha256:{digest}", "size": len(data)}

    described = [blob(data) for data in layers]
    diff_ids = [f"sha256:{hashlib.sha256(_plain(data)).hexdigest()}" for data in layers]
    document = {
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
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
