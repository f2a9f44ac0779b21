"""The tokens that `broadway login` stores, by server and course, in a file that only its owner can read."""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from secrets import token_hex
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Login:
    """A stored token."""

    server: str
    course: str
    token: str = field(repr=False)

    def is_for(self, server: str, course: str) -> bool:
        """Return whether this is the token for a course at a server."""
        return (self.server, self.course) == (address(server), course)


def default_file() -> Path:
    """Return the path of the file, in the user's directory of settings.

    Raises:
        RuntimeError: There is no home directory.
    """
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "broadway" / "logins.json"


@dataclass(frozen=True, slots=True)
class Logins:
    """Stored tokens; the first one is of the latest login, whose server and course commands use by default."""

    file: Path
    stored: tuple[Login, ...] = ()
    problem: str = ""  # with an existing file that cannot be read

    @classmethod
    def read(cls, file: Path | None = None) -> Self:
        """Read the file; a missing or an unreadable one has no tokens."""
        try:
            file = file or default_file()
        except RuntimeError:
            return cls(Path(os.devnull), problem="there is no home directory; set XDG_CONFIG_HOME")
        try:
            return cls(file, tuple(Login(**_texts(each)) for each in json.loads(file.read_text())))
        except (FileNotFoundError, NotADirectoryError):
            return cls(file)
        except OSError as error:
            return cls(file, problem=error.strerror or str(error))
        except (ValueError, TypeError, RecursionError):
            return cls(file, problem="it is damaged; remove it, and log in again")

    @property
    def server(self) -> str | None:
        """The server of the latest login."""
        return self.stored[0].server if self.stored else None

    def course_at(self, server: str) -> str | None:
        """Return the course of the latest login at a server."""
        return next((each.course for each in self.stored if each.server == address(server)), None)

    def token_of(self, server: str, course: str) -> str | None:
        """Return the token for a course at a server."""
        return next((each.token for each in self.stored if each.is_for(server, course)), None)

    def add(self, login: Login) -> None:
        """Store a token as that of the latest login.

        Raises:
            OSError: The file cannot be written.
        """
        self._write([login, *self._without(login.server, login.course)])

    def remove(self, server: str, course: str) -> bool:
        """Remove a token; return whether there was one.

        Raises:
            OSError: The file cannot be written.
        """
        rest = self._without(server, course)
        if len(rest) == len(self.stored):
            return False
        self._write(rest)
        return True

    def _without(self, server: str, course: str) -> list[Login]:
        return [each for each in self.stored if not each.is_for(server, course)]

    def _write(self, logins: list[Login]) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        draft = self.file.with_name(f"{self.file.name}.{token_hex(4)}")
        try:
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                json.dump([asdict(each) for each in logins], file)
            draft.replace(self.file)
        finally:
            draft.unlink(missing_ok=True)


def address(server: str) -> str:
    """Return a server's address in the form in which two equal ones are the same text."""
    return server.strip().rstrip("/")


def _texts(entry: Any) -> dict[str, str]:
    if not isinstance(entry, dict) or not all(isinstance(each, str) for each in entry.values()):
        raise TypeError("expected texts")
    return entry
