"""Images for tests, built here because there is no registry."""

import hashlib
import io
import json
import os
import platform
import re
import shutil
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from broadway.grader.oci.compression import uncompressed
from demo import rootfs

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
        _add_busybox(tar)
    return buffer.getvalue()


def _add_busybox(tar: tarfile.TarFile) -> None:
    tar.add(shutil.which("busybox") or "/bin/busybox", "bin/busybox")
    applets = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    for applet in set(applets) - {"busybox"}:
        link = tarfile.TarInfo(f"bin/{applet}")
        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
        tar.addfile(link)


def layout(directory: Path, name: str, layers: Sequence[bytes], *, architecture: str = "", **config: Any) -> Path:
    """Write an OCI image layout with one image, from tar archives as layers and a config, and return the directory.

    The image is made for this machine, or for another ``architecture``.
    """
    blobs = directory / "blobs" / "sha256"
    blobs.mkdir(parents=True, exist_ok=True)

    def blob(data: bytes, kind: str) -> dict[str, Any]:
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        media = f"application/vnd.oci.image.{kind}"
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)}

    described = [blob(data, f"layer.v1.tar{_compression(data)}") for data in layers]
    diff_ids = [f"sha256:{hashlib.sha256(_plain(data)).hexdigest()}" for data in layers]
    document = {
        "architecture": architecture or {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }
    manifest = {"schemaVersion": 2, "config": blob(_json(document), "config.v1+json"), "layers": described}
    entry = {**blob(_json(manifest), "manifest.v1+json"), "annotations": {"org.opencontainers.image.ref.name": name}}
    (directory / "index.json").write_bytes(_json({"schemaVersion": 2, "manifests": [entry]}))
    (directory / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')
    return directory


def _compression(data: bytes) -> str:
    return "+gzip" if data.startswith(b"\x1f\x8b") else "+zstd" if data.startswith(b"\x28\xb5\x2f\xfd") else ""


def _plain(data: bytes) -> bytes:
    with uncompressed(io.BytesIO(data)) as plain:
        return plain.read()


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode()


AUTOGRADER = "broadway-test-autograder:1"
_OF_GCC = ("crt1.o", "Scrt1.o", "crti.o", "crtn.o", "crtbegin.o", "crtbeginS.o", "crtend.o", "crtendS.o")
_OF_C = ("libgcc.a", "libgcc_s.so", "libgcc_s.so.1", "libc.so", "libc.so.6", "libc_nonshared.a", "liblto_plugin.so")
_HEADERS = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n"


def autograder(target: Path) -> None:
    """Write a root file system with Python, bash, busybox and a C compiler, as a tar archive."""
    with target.open("wb") as archive:
        rootfs.write(archive)
    programs = [_which("bash"), *_compiler()]
    libraries = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=False).stdout
    with tarfile.open(target, mode="a", dereference=True) as tar:
        present = set(tar.getnames())
        for file in [*programs, *re.findall(r"(/\S+) \(0x", libraries), *_parts_of_programs()]:
            name = os.path.normpath(file).removeprefix("/")
            if name not in present:
                tar.add(file, name)
                present.add(name)
        for path, link in (("usr/bin/env", "/bin/busybox"), ("bin/bash", _which("bash"))):
            if path != _which("bash").removeprefix("/"):
                entry = tarfile.TarInfo(path)
                entry.type, entry.linkname = tarfile.SYMTYPE, link
                tar.addfile(entry)
        _add_busybox(tar)


def _which(program: str) -> str:
    return shutil.which(program) or f"/usr/bin/{program}"


def _asked(*question: str) -> str:
    return subprocess.run(["gcc", *question], input=_HEADERS, capture_output=True, text=True, check=True).stdout.strip()


def _compiler() -> list[str]:
    names = ("cc1", "collect2", "lto-wrapper")
    return [*map(_which, ("gcc", "as", "ld")), *(_asked(f"-print-prog-name={name}") for name in names)]


def _parts_of_programs() -> list[str]:
    """Return the files of which the C compiler makes a program, and the headers of a small one."""
    found = [_asked(f"-print-file-name={name}") for name in (*_OF_GCC, *_OF_C)]
    headers = _asked("-O2", "-M", "-x", "c", "-").replace("\\\n", " ").split()[1:]
    return [path for path in (*found, *headers) if path.startswith("/")]
