"""The documents of the project are right: commands run, blocks fit their schemas, links and names exist."""

import asyncio
from pathlib import Path

import httpx2
import pytest
from documents.checks import COMMANDS, OF_COMMANDS, OF_DATA
from documents.inline import unknown_commands
from documents.links import dead_links, missing_names, missing_paths, named, targets
from documents.reading import API, ROOT, documents, failures, name
from documents.schemas import wrong_json
from documents.shell import Shell

TOUR = ROOT / "docs" / "code-tour.md"

every_document = pytest.mark.parametrize("path", documents(), ids=name)


def has_commands(path: Path) -> bool:
    return any(f"```{language}\n" in path.read_text() for language in COMMANDS)


@pytest.mark.parametrize("path", [path for path in documents() if has_commands(path)], ids=name)
async def test_commands_run(path: Path, shell: Shell) -> None:
    shell.restart()
    wrong = await asyncio.to_thread(failures, path, OF_COMMANDS, shell=shell)
    assert not wrong, "\n".join(wrong)


@every_document
def test_blocks_fit_their_schemas(path: Path) -> None:
    wrong = failures(path, OF_DATA)
    assert not wrong, "\n".join(wrong)


@every_document
def test_commands_in_running_text_exist(path: Path) -> None:
    wrong = unknown_commands(path)
    assert not wrong, "\n".join(wrong)


@every_document
def test_links_have_targets(path: Path) -> None:
    wrong = dead_links(path) + missing_paths(path)
    assert not wrong, "\n".join(wrong)


async def test_the_api_has_the_addresses_of_documents(shell: Shell) -> None:
    addresses = {target for path in documents() for _, target in targets(path) if target.startswith(f"http://{API}/")}
    async with httpx2.AsyncClient(timeout=30) as client:
        answers = {each: await client.get(each.replace(API, shell.replaced[API])) for each in addresses}

    assert addresses
    assert not [each for each, answer in answers.items() if answer.status_code == httpx2.codes.NOT_FOUND]


@every_document
def test_names_in_documents_are_defined_in_the_code(path: Path) -> None:
    wrong = missing_names(path)
    assert not wrong, "\n".join(wrong)


def test_the_tour_names_functions() -> None:
    assert len(list(named(TOUR))) >= 20


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "examples").glob("*.json")), ids=name)
def test_example_files_fit_their_schemas(path: Path) -> None:
    assert wrong_json(path.read_text()) is None
