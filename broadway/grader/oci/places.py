"""The places of images as settings name them, and the names under which skopeo finds an image there."""

from dataclasses import dataclass, field
from pathlib import Path

from broadway.grader.docker.registries import host_of

ENGINE, REGISTRY, LAYOUT = "engine", "registry", "oci"
SKOPEO = "skopeo"
_ALIASES = {"docker-daemon:": ENGINE}


@dataclass(frozen=True, slots=True)
class Place:
    """A place of images: an engine, registries, or a layout or an archive at ``path``."""

    kind: str = ENGINE
    path: Path | None = None

    @classmethod
    def of(cls, text: str) -> "Place":
        """Return the place that a setting names, such as ``engine``, ``registry`` or ``oci-archive:FILE``."""
        kind, colon, path = _ALIASES.get(text, text).partition(":")
        return cls(kind, Path(path).absolute() if colon else None)

    @property
    def is_of_skopeo(self) -> bool:
        """True if skopeo gets the images."""
        return self.kind not in {ENGINE, LAYOUT}

    def reference(self, name: str) -> str:
        """Return skopeo's reference of an image."""
        if self.kind == REGISTRY:
            return f"docker://{_without_tag(name)}"
        return f"{self.kind}:{self.path}:{name}"

    def __str__(self) -> str:
        return self.kind if self.path is None else f"{self.kind}:{self.path}"


@dataclass(frozen=True, slots=True)
class Access:
    """Access to registries.

    Args:
        auth_file: A file of credentials; None for the user's own.
        login: A registry, a user, and a file with the password, instead.
        certificates: A directory with authorities.
        plain_http: The registries without TLS, by the first part of images' names.
        allow_local: True if registries on this host may be used; they need no TLS.
    """

    auth_file: Path | None = None
    login: tuple[str, str, Path] | None = field(default=None, repr=False)
    certificates: Path | None = None
    plain_http: frozenset[str] = frozenset()
    allow_local: bool = False

    def demands_tls(self, name: str) -> bool:
        """Return True if the registry of an image must have a valid certificate."""
        registry, host = name.partition("/")[0], host_of(name)
        if host is None:
            return True
        is_loopback = host in {"localhost", "::1"} or host.startswith("127.")
        return not ({registry, host} & self.plain_http or (is_loopback and self.allow_local))


def _without_tag(name: str) -> str:
    """Return a name without its tag if it has a digest, too: skopeo does not take both."""
    rest, at, digest = name.partition("@")
    path, colon, tag = rest.rpartition(":")
    return f"{path}@{digest}" if at and colon and "/" not in tag else name
