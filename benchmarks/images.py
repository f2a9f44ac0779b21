"""The image of the stages, made here, so that no registry is needed."""

import io
import shutil
import subprocess
import tarfile

BUSYBOX = "localhost/broadway-bench-busybox:1"  # `localhost`, so that no registry is asked for a newer one


def busybox() -> bytes:
    """Return a root file system with the programs of busybox, as a tar archive."""
    program = shutil.which("busybox") or "/bin/busybox"
    applets = subprocess.run((program, "--list"), capture_output=True, text=True, check=True).stdout.split()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as tar:
        tar.add(program, "bin/busybox")
        for applet in {*applets} - {"busybox"}:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    return buffer.getvalue()
