"""Compose has the options that documents use."""

import re
import subprocess

import pytest
from documents.stand_in import OF_COMPOSE


@pytest.mark.long
@pytest.mark.parametrize("command", OF_COMPOSE)
def test_compose_has_the_options_of_documents(command: str) -> None:
    done = subprocess.run(["docker-compose", command, "--help"], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    for option, takes_value in OF_COMPOSE[command].items():
        (line,) = re.findall(
            rf"^ +(?:-\w, )?{option}(?:, --[\w-]+)?([ =][\w\"=.\[\]]+)?(?:  |$)", done.stdout, re.MULTILINE
        )
        assert bool(line) is takes_value, option
