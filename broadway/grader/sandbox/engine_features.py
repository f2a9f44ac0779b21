"""What a Docker Engine can do for stages, from what it says of itself (``docker info``)."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from broadway.grader.sandbox.cgroups import can_meter
from broadway.grader.sandbox.seccomp import ENGINE_ARCHITECTURES, engine_profile

MOUNTS = Path("/proc/self/mountinfo")
_QUOTAS = {"btrfs", "zfs"}  # drivers whose containers can have a quota, whatever is below them
_PROJECT_QUOTAS = {"prjquota", "pquota"}  # options of xfs with which those of overlay2 can


@dataclass(frozen=True, slots=True)
class EngineFeatures:
    """What stages may rely on.

    Args:
        is_metered: Control groups around containers, by which to tell what they used.
        seccomp: The filter for untrusted stages; None if the engine's own is to be used.
        has_quotas: Whether it can keep a container's disk below a size.
        data: Where it keeps containers; None if that is not on this host.
        cpus: How many it has for itself and its containers.
    """

    is_metered: bool = False
    seccomp: str | None = None
    has_quotas: bool = False
    data: Path | None = None
    cpus: int = 1

    @classmethod
    def of(cls, info: Mapping[str, Any], *, runtime: str | None, is_here: bool, mounts: Path = MOUNTS) -> Self:
        """What an engine is able to, that runs containers by a runtime, None for its default one.

        Args:
            info: What it says of itself; nothing, if it does not tell.
            runtime: One of its runtimes.
            is_here: Whether it is on this host.
            mounts: What is mounted on this host, as ``/proc/self/mountinfo`` has it.
        """
        place = Path(info.get("DockerRootDir") or "/nowhere")
        data = place if is_here and place.is_dir() else None
        return cls(
            is_metered=can_meter(str(info.get("CgroupDriver", ""))),
            seccomp=engine_profile() if _takes_filters(info, runtime or info.get("DefaultRuntime")) else None,
            has_quotas=_has_quotas(info, data, mounts),
            data=data,
            cpus=int(info.get("NCPU") or 1),
        )


def _takes_filters(info: Mapping[str, Any], runtime: str | None) -> bool:
    """Whether a filter of ours is used, and better than its own: gVisor has one, and an operator's own is respected."""
    told = [str(each).split(",") for each in info.get("SecurityOptions") or []]
    profiles = next((rest for name, *rest in told if name == "name=seccomp"), None)
    if profiles is None or runtime == "runsc":
        return False
    return info.get("Architecture") in ENGINE_ARCHITECTURES and not any("/" in each for each in profiles)


def _has_quotas(info: Mapping[str, Any], data: Path | None, mounts: Path) -> bool:
    driver = info.get("Driver")
    if driver in _QUOTAS:
        return True
    below = dict(each for each in info.get("DriverStatus") or [] if len(each) == 2)  # noqa: PLR2004 - pairs
    if driver != "overlay2" or below.get("Backing Filesystem") != "xfs" or data is None:
        return False
    return bool(_options(data, mounts) & _PROJECT_QUOTAS)


def _options(directory: Path, mounts: Path) -> set[str]:
    """The options of the file system that a directory is on."""
    found: dict[int, set[str]] = {}
    for line in mounts.read_text().splitlines():
        fields = line.split()
        if directory.is_relative_to(fields[4]):
            found[len(fields[4])] = set(fields[-1].split(","))
    return found[max(found)] if found else set()
