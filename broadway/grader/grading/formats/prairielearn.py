"""PrairieLearn's ``results.json``."""

import base64
import binascii
import hashlib
import re
from decimal import Decimal
from typing import Any

from broadway.domain.keys_of_tests import Keys
from broadway.domain.report import MAX_IMAGES, MAX_MESSAGES, Format, Image, Report, ReportedTest, Source, Status, Text
from broadway.grader.grading.formats.json_file import object_in
from broadway.grader.grading.formats.malformed import Fields, malformed, points

_DATA = re.compile(r"data:(image/[a-z0-9.+-]{1,50});base64,(.*)", re.DOTALL)
_FIGURE = "Figure"
_WHOLE = Decimal(1)


def read(data: bytes) -> Report:
    """Read a ``results.json``.

    The score is a fraction of the maximum, which is ``max_points`` or 1. A submission that is not gradable has no
    score.

    Raises:
        MalformedError: The file is not valid.
    """
    file = object_in(data, errors="replace")
    gradable = file.flag("gradable", default=True)
    whole = file.number("max_points")
    maximum = whole if whole is not None and whole > 0 else _WHOLE
    listed = file.objects("tests")
    keys = Keys()
    has_points = all(test.has("points") and test.has("max_points") for test in listed)
    return Report(
        source=Source.PRAIRIELEARN,
        score=_score(file, maximum) if gradable else None,
        max=maximum if gradable else None,
        gradable=gradable,
        messages=_messages(file, is_refused=not gradable),
        tests=[_test(test, keys, index, has_points=has_points) for index, test in enumerate(listed, 1)],
        images=_all_images(file, listed),
    )


def _score(file: Fields, maximum: Decimal) -> Decimal:
    """Return the score in points; null counts as 0."""
    if "score" not in file.values:
        raise malformed("score", 'should be a number from 0 to 1, unless "gradable" is false')
    if not file.number("score"):
        return Decimal(0)
    exact = Decimal(file.values["score"])  # a third of the points should not be rounded before it is multiplied
    return points(exact * maximum, "score")


def _messages(file: Fields, *, is_refused: bool) -> list[Text]:
    given = file.values.get("format_errors")
    errors = [given] if isinstance(given, str) else file.texts("format_errors", most=MAX_MESSAGES - 2)
    found = [Text(body=error) for error in errors if error and is_refused]
    if message := file.text("message"):
        found.append(Text(body=message))
    if output := file.text("output"):
        found.append(Text(body=output, format=Format.ANSI))
    return found


def _test(test: Fields, keys: Keys, place: int, *, has_points: bool) -> ReportedTest:
    """Return a test. If any test lacks points, no test shows them."""
    name = test.text("name") or f"Test {place}"
    score, limit = test.number("points"), test.number("max_points")
    if limit is not None and limit < 0:
        raise malformed(test.place("max_points"), "should not be negative")
    message = "\n".join(each for each in (test.text("description"), test.text("message")) if each)
    output = test.text("output")
    return ReportedTest(
        key=keys.of([], name),
        name=Text(body=name),
        status=_status(score, limit),
        score=score if has_points else None,
        max=limit if has_points else None,
        output=Text(body=output, format=Format.ANSI) if output else None,
        message=Text(body=message) if message else None,
    )


def _status(score: Decimal | None, limit: Decimal | None) -> Status:
    if score is None or not limit:
        return Status.INFO
    if score >= limit:
        return Status.PASSED
    return Status.PARTIAL if score > 0 else Status.FAILED


def _all_images(file: Fields, tests: list[Fields]) -> list[Image]:
    found = _images(file, "")
    for test in tests:
        if test.has("images"):
            found += _images(test, test.text("name") or "")
    return found[:MAX_IMAGES]


def _images(holder: Fields, owner: str) -> list[Image]:
    """Return images with their data in the file; addresses of other servers are left out."""
    given = holder.values.get("images")
    if given is None:
        return []
    if not isinstance(given, list):
        raise malformed(holder.place("images"), "should be a list")
    return [
        image for index, each in enumerate(given) if (image := _image(each, f"{holder.place('images')}.{index}", owner))
    ]


def _image(entry: Any, where: str, owner: str) -> Image | None:
    if isinstance(entry, str):
        entry = {"url": entry}
    if not isinstance(entry, dict):
        raise malformed(where, "should be an object with a url, or a data URL")
    fields = Fields(entry, where)
    matched = _DATA.fullmatch(fields.text("url") or "")
    if matched is None:
        return None
    try:
        content = base64.b64decode(matched[2])
    except (binascii.Error, ValueError):
        raise malformed(fields.place("url"), "should have Base64 data") from None
    label = fields.text("label") or _FIGURE
    return Image(
        label=f"{owner}: {label}" if owner else label, media=matched[1], sha256=hashlib.sha256(content).hexdigest()
    )
