"""The features of a Docker Engine that stages can use, read from ``docker info``."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from broadway.grader.sandbox.architectures import EMULATORS, normalized
from broadway.grader.sandbox.cgroups import can_meter
from broadway.grader.sandbox.seccomp import ENGINE_ARCHITECTURES, engine_profile

MOUNTS = Path("/proc/self/mountinfo")
_QUOTAS = {"btrfs", "zfs"}  # storage drivers that support quotas on any file system
_PROJECT_QUOTAS = {"prjquota", "pquota"}  # mount options of xfs with which overlay2 supports quotas


@dataclass(frozen=True, slots=True)
class EngineFeatures:
    """The features of an engine.

    Args:
        is_metered: Control groups around containers are possible, which show their resource usage.
        seccomp: The filter for untrusted stages; None to use the engine's own.
        has_quotas: The engine can limit the size of a container's disk.
        data: The directory where it stores containers; None if that is not on this host.
        cpus: The number of CPUs for the engine and its containers.
        architecture: The processor architecture of the engine's host, as in images; empty if it is not known.
        emulators: The kernel's list of emulators for other architectures; None if the engine is on another host.
    """

    is_metered: bool = False
    seccomp: str | None = None
    has_quotas: bool = False
    data: Path | None = None
    cpus: int = 1
    architecture: str = ""
    emulators: Path | None = None

    @classmethod
    def of(
        cls,
        info: Mapping[str, Any],
        *,
        runtime: str | None,
        is_local: bool,
        allow_32_bit: bool = False,
        mounts: Path = MOUNTS,
    ) -> Self:
        """Return the features of an engine.

        Args:
            info: The engine's answer to ``docker info``.
            runtime: The name of the runtime for containers; None for the engine's default.
            is_local: The engine is on this host.
            allow_32_bit: Untrusted stages may run 32-bit programs.
            mounts: The mounts of this host, in the format of ``/proc/self/mountinfo``.
        """
        takes_filters = _takes_filters(info, runtime or info.get("DefaultRuntime"))
        place = Path(info.get("DockerRootDir") or "/nowhere")
        data = place if is_local and place.is_dir() else None
        return cls(
            is_metered=can_meter(str(info.get("CgroupDriver", ""))),
            seccomp=engine_profile(allow_32_bit=allow_32_bit) if takes_filters else None,
            has_quotas=_has_quotas(info, data, mounts),
            data=data,
            cpus=int(info.get("NCPU") or 1),
            architecture=normalized(str(info.get("Architecture") or "")),
            emulators=EMULATORS if is_local and info.get("Architecture") else None,
        )


def _takes_filters(info: Mapping[str, Any], runtime: str | None) -> bool:
    """Return True if our filter works and is better: not with gVisor's own, nor in place of an operator's."""
    options = [str(each).split(",") for each in info.get("SecurityOptions") or []]
    profiles = next((rest for name, *rest in options if name == "name=seccomp"), None)
    if profiles is None or runtime == "runsc":
        return False
    return info.get("Architecture") in ENGINE_ARCHITECTURES and not any("/" in each for each in profiles)


def _has_quotas(info: Mapping[str, Any], data: Path | None, mounts: Path) -> bool:
    driver = info.get("Driver")
    if driver in _QUOTAS:
        return True
    status = dict(each for each in info.get("DriverStatus") or [] if len(each) == 2)  # noqa: PLR2004 - pairs
    if driver != "overlay2" or status.get("Backing Filesystem") != "xfs" or data is None:
        return False
    return bool(_options(data, mounts) & _PROJECT_QUOTAS)


def _options(directory: Path, mounts: Path) -> set[str]:
    """Return the mount options of the file system that a directory is on."""
    found: dict[int, set[str]] = {}
    for line in mounts.read_text().splitlines():
        fields = line.split()
        if directory.is_relative_to(fields[4]):
            found[len(fields[4])] = set(fields[-1].split(","))
    return found[max(found)] if found else set()
