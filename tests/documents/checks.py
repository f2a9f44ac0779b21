"""The checks for blocks of each language."""

from documents.reading import unchecked
from documents.schemas import evaluator, wrong_json, wrong_python, wrong_yaml
from documents.shell import hidden_command, run_script, run_session

COMMANDS = {"sh": run_script, "console": run_session}
DATA = {
    "json": evaluator(wrong_json),
    "yaml": evaluator(wrong_yaml),
    "python": evaluator(wrong_python),
    "text": evaluator(hidden_command),
    "mermaid": unchecked,  # GitHub draws it; no parser of it is packaged for Python
    "csv": unchecked,
}
OF_COMMANDS = {**dict.fromkeys(DATA, unchecked), **COMMANDS}
OF_DATA = {**dict.fromkeys(COMMANDS, unchecked), **DATA}
