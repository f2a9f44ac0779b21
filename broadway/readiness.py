"""Reading what a service reports of its parts, for supervisors that ask every few seconds: so nothing is imported here.

``python -m broadway.readiness FILE`` is ``broadway health FILE`` at a tenth of its cost.
"""

import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

STALE = timedelta(seconds=30)  # without a look, and a service counts as stuck


def judge(file: Path, now: datetime) -> tuple[bool, str]:
    """Whether the service that keeps a file is ready, and a sentence that says so, or what is away and since when."""
    try:
        report = json.loads(file.read_text())
        looked_at = datetime.fromisoformat(report["looked_at"])
    except (OSError, ValueError, KeyError) as error:
        return False, f"{file}: no report: {error}"
    if now - looked_at > STALE:
        return False, f"{file}: nothing was reported since {looked_at:%H:%M:%S} UTC: the service is gone, or stuck"
    away = [f"{part} is away since {a['since']}: {a['reason']}" for part, a in report["away"].items()]
    return report["ready"], "; ".join(away) or "ready"


def main() -> None:
    """Print the sentence; exit 0 when the service is ready, 1 when it is not, 2 without the name of a file."""
    if len(sys.argv) != 2:  # noqa: PLR2004 - the program and the file
        sys.stderr.write("usage: python -m broadway.readiness FILE\n")
        sys.exit(2)
    is_ready, sentence = judge(Path(sys.argv[1]), datetime.now(UTC))
    sys.stdout.write(f"{sentence}\n")
    sys.exit(0 if is_ready else 1)


if __name__ == "__main__":
    main()
