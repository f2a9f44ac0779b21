"""Files that attack their reader: refused, or read, by a process that may use little memory and processor time."""

import json
import resource
import subprocess
import sys
from collections.abc import Callable

import pytest

from broadway.grader.grading.formats.malformed import File
from broadway.grader.grading.formats.read import InvalidReportError, read

MEMORY = 512 * 1024 * 1024  # bytes of address space, of which the interpreter and the imports take most
SECONDS = 20  # of processor time, for each file
ENTITIES = "".join(f'<!ENTITY e{n + 1} "{("&e" + str(n) + ";") * 9}">' for n in range(9))
CASE = '<testcase name="a"/>'


def suite(inside: str) -> bytes:
    return f"<testsuite>{inside}</testsuite>".encode()


# Each file by name: its format, a function that makes it, and a part of the refusal; None if it is read.
HOSTILE: dict[str, tuple[str, Callable[[], bytes], str | None]] = {
    "entity bomb": (
        "junit",
        f'<!DOCTYPE x [<!ENTITY e0 "lol">{ENTITIES}]><testsuite>&e9;</testsuite>'.encode,
        "DOCTYPE",
    ),
    "quadratic blow-up": (
        "junit",
        f'<!DOCTYPE x [<!ENTITY a "{"a" * 50_000}">]><testsuite>{"&a;" * 50_000}</testsuite>'.encode,
        "DOCTYPE",
    ),
    "external entity": (
        "junit",
        lambda: b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><testsuite>&a;</testsuite>',
        "DOCTYPE",
    ),
    "document type without entities": ("junit", lambda: b"<!DOCTYPE x>" + suite(CASE), "DOCTYPE"),
    "deep elements": ("junit", lambda: b"<testsuite>" + b"<a>" * 200_000, "nested deeper than 32"),
    "many elements": ("junit", lambda: suite("<a/>" * 200_000), "at most 50000 elements"),
    "many attributes": (
        "junit",
        lambda: suite("<testcase " + " ".join(f"a{n}='1'" for n in range(60_000)) + "/>"),
        "at most 64 attributes",
    ),
    "long attribute": ("junit", lambda: suite(f'<testcase name="{"n" * 900_000}"/>'), None),
    "long text": ("junit", lambda: suite(f"<testcase name='a'><failure>{'&lt;' * 200_000}</failure></testcase>"), None),
    "many tests": ("junit", lambda: suite("".join(f'<testcase name="{n}"/>' for n in range(20_000))), "at most 10000"),
    "one test many times": ("junit", lambda: suite(CASE * 40_000), None),
    "names of many parts": (
        "junit",
        lambda: suite("".join(f'<testcase name="{"a/" * 60}{n}"/>' for n in range(5_000))),
        None,
    ),
    "unknown encoding": ("junit", lambda: b'<?xml version="1.0" encoding="utf-7"?>' + suite(CASE), "UTF-8"),
    "multibyte encoding": ("junit", lambda: b'<?xml version="1.0" encoding="euc-jp"?>' + suite(CASE), "UTF-8"),
    "large file": ("junit", lambda: b" " * 1_100_000, "at most 200 files of 1048576 bytes"),
    "properties in output": (
        "junit",
        lambda: suite(f"<testcase name='a'><system-out>{'[[PROPERTY|' * 90_000}</system-out></testcase>"),
        None,
    ),
    "huge time": ("junit", lambda: suite('<testcase name="a" time="1e999999999"/>'), None),
    "deep lists": ("gradescope", lambda: b"[" * 1_000_000, "nested deeper than 32"),
    "deep objects": ("gradescope", lambda: b'{"a":' * 40 + b"1" + b"}" * 40, "nested deeper than 32"),
    "many digits": ("gradescope", lambda: b'{"score": ' + b"9" * 1_000_000 + b"}", "score: should be a number"),
    "huge exponent": ("gradescope", lambda: b'{"score": 1e999999999}', "score: should be a number"),
    "exponent of many digits": ("gradescope", lambda: b'{"score": 1e' + b"9" * 900_000 + b"}", "score"),
    "tiny exponent": ("gradescope", lambda: b'{"score": 1e-999999999}', None),
    "long number in extra data": (
        "gradescope",
        lambda: b'{"score": 1, "extra_data": ' + b"9" * 1_000_000 + b"}",
        None,
    ),
    "halves of surrogate pairs": (
        "gradescope",
        lambda: b'{"score": 1, "output": "\\ud800", "extra_data": {"\\udfff": "\\ud800"}}',
        None,
    ),
    "many equal names": (
        "gradescope",
        lambda: json.dumps({"tests": [{"name": "a", "score": 1}] * 10_000}).encode(),
        None,
    ),
    "many results": ("gradescope", lambda: json.dumps({"tests": [{}] * 20_000}).encode(), "at most 10000 entries"),
    "names that look numbered": (
        "gradescope",
        lambda: json.dumps({"tests": [{"name": f"a#{n % 4}", "score": 1} for n in range(10_000)]}).encode(),
        None,
    ),
    "number of many digits": (
        "gradescope",
        lambda: json.dumps({"tests": [{"number": "1." * 200_000 + "1" * 400_000, "score": 1}] * 1}).encode(),
        None,
    ),
    "image of no base64": (
        "prairielearn",
        lambda: b'{"score": 1, "images": ["data:image/png;base64,====A"]}',
        "Base64",
    ),
    "base64 of many blanks": ("classroom", lambda: b" \n" * 500_000, "JSON"),
    "long line": ("autolab", lambda: b"{" * 1_000_000, "the last line"),
    "many lines": ("tap", lambda: b"1..10\n" + b"ok\n" * 300_000, "at most 10000"),
    "numbers far beyond the plan": ("tap", lambda: b"1..2\nok 999999999\nok 1\nok 2\n", None),
    "many directives": ("tap", lambda: b"1..1\nok 1 - " + b"\\# " * 300_000, None),
}


def refusal(name: str) -> str | None:
    """Return the refusal of a file, or None if it is read."""
    form, make, _ = HOSTILE[name]
    try:
        read(form, [File("out/report", make())])
    except InvalidReportError as error:
        return str(error)
    return None


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_refused_with_a_sentence_or_read(name: str) -> None:
    expected, found = HOSTILE[name][2], refusal(name)
    assert (found is None) == (expected is None), found
    assert expected is None or expected in (found or "")
    assert len(found or "") < 500


def test_no_hostile_file_takes_much_memory_or_time() -> None:
    directory = __file__.rsplit("/", 1)[0]
    code = f"import sys; sys.path.insert(0, {directory!r}); import test_hostile_files as t; t.within_limits()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"{len(HOSTILE)} files\n"), done.stderr[-2000:]


def within_limits() -> None:
    """Read every file in this process, which dies if one takes too much."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for name in HOSTILE:
        used = resource.getrusage(resource.RUSAGE_SELF)
        spent = int(used.ru_utime + used.ru_stime) + 1
        resource.setrlimit(resource.RLIMIT_CPU, (spent + SECONDS, resource.RLIM_INFINITY))
        refusal(name)
    sys.stdout.write(f"{len(HOSTILE)} files\n")
