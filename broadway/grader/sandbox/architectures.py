"""Processor architectures of images and of this host, in the names of the OCI image specification."""

from pathlib import Path

EMULATORS = Path("/proc/sys/fs/binfmt_misc")
OF_MACHINES = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    **dict.fromkeys(("armv6l", "armv7l", "armv8l"), "arm"),
    **dict.fromkeys(("i386", "i486", "i586", "i686"), "386"),
}
# Architectures whose programs a processor runs besides its own: the 32-bit ones of the same family.
_OLDER = {"amd64": {"386"}, "arm64": {"arm"}}
# The number of an architecture in the header of a program (ELF e_machine).
_ELF = {"386": 3, "amd64": 62, "arm": 40, "arm64": 183, "ppc64le": 21, "s390x": 22, "riscv64": 243}
_MACHINE_AT = 18  # offset in the header, of two bytes
_BIG_ENDIAN = {"s390x"}


def normalized(machine: str) -> str:
    """Return an architecture's name in an image's config for a name of a kernel, such as amd64 for x86_64."""
    return OF_MACHINES.get(machine, machine)


def mismatch(image: str, host: str, *, emulators: Path | None = EMULATORS) -> str | None:
    """Return the reason for which this host cannot run an image's programs; None if it can, or if that is not known.

    Args:
        image: The image's platform, as ``os/architecture``; an empty part is not known.
        host: The host's architecture; empty if it is not known.
        emulators: The directory in which the kernel lists its emulators; None if the host is another one.
    """
    system, _, architecture = image.partition("/")
    architecture, host = normalized(architecture), normalized(host)
    fits = architecture in ("", host, *_OLDER.get(host, ())) or not host
    if system in ("", "linux") and (fits or (emulators and _is_emulated(architecture, emulators))):
        return None
    return f"it is made for {system or 'linux'}/{architecture}, and this grader's host is linux/{host or '?'}"


def _is_emulated(architecture: str, emulators: Path) -> bool:
    """Return whether the kernel has an enabled emulator for an architecture that works in containers (flag F)."""
    number = _ELF.get(architecture)
    if number is None:
        return False
    wanted = number.to_bytes(2, "big" if architecture in _BIG_ENDIAN else "little")
    try:
        return any(_runs(entry.read_text(), wanted) for entry in emulators.iterdir() if entry.name != "register")
    except OSError:
        return False


def _runs(entry: str, machine: bytes) -> bool:
    """Return whether an entry of binfmt_misc, in the kernel's text form, runs programs of a machine."""
    lines = entry.splitlines()
    fields = dict(line.split(None, 1) for line in lines if len(line.split(None, 1)) > 1)
    try:
        magic = bytes.fromhex(fields.get("magic", ""))
    except ValueError:
        return False
    is_usable = lines[:1] == ["enabled"] and "F" in fields.get("flags:", "")
    return is_usable and magic[:4] == b"\x7fELF" and magic[_MACHINE_AT : _MACHINE_AT + 2] == machine
