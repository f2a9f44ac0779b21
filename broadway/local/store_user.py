"""Give an embedded store its only user, while no server runs: a file for the Python of the store's package.

The data's directory is the argument, and the password the standard input. No server without a login ever listens.
"""

import sys


def main() -> None:
    """Create the user ``broadway`` with all rights, or change its password."""
    from secantus.auth import (  # type: ignore[import-untyped]  # noqa: PLC0415 - only this process needs the package
        SCRAM_SHA_256,
        derive_credentials,
    )
    from secantus.storage import Storage  # type: ignore[import-untyped]  # noqa: PLC0415

    name = "broadway"
    credentials = derive_credentials(sys.stdin.read(), mechanism=SCRAM_SHA_256, username=name).to_doc()
    user = {
        "_id": f"admin.{name}",
        "user": name,
        "db": "admin",
        "credentials": credentials,
        "roles": [{"role": "root", "db": "admin"}],
        "mechanisms": [SCRAM_SHA_256],
    }
    storage = Storage(sys.argv[1])
    try:
        storage.add_user("admin", name, user, replace=True)
    finally:
        storage.close()


if __name__ == "__main__":
    main()
