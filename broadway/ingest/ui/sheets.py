"""`/ui/c/…/a/…/grades/export` and `…/merge`: grades as files, and merged into files of learning management systems."""

import asyncio
from collections.abc import Mapping
from hashlib import sha256

from starlette.requests import Request
from starlette.responses import Response

from broadway.domain.json_bodies import check
from broadway.domain.sheets.cells import MAX_BYTES
from broadway.domain.sheets.merging import MergeChoice
from broadway.domain.sheets.options import ExportChoice, keys_of
from broadway.domain.sheets.writing import unmatched_csv
from broadway.ingest.http.answers import Refused
from broadway.ingest.http.deps import Deps
from broadway.ingest.http.downloads import made
from broadway.ingest.http.rights import Auth, Load, nothing, takes
from broadway.ingest.http.uploads import uploaded
from broadway.ingest.reads.grade_sheets import Basis, Names, Origin
from broadway.ingest.ui.grades import place_of
from broadway.messages.resources.grade_queries import ExportQuery, MergeQuery

CSV = "text/csv; charset=utf-8; header=present"


@takes(Auth.COURSE, load=Load.LARGE)
async def export(request: Request, deps: Deps) -> Response:
    """Download grades as a new file, in one of the formats of the API."""
    place = await place_of(request, deps)
    given = dict(request.query_params)
    query = check(
        {name: given[name] for name in ("format", "version", "missing", "decimal") if given.get(name)}, ExportQuery
    )
    choice = ExportChoice(format=query.format, title=place.assignment, missing=query.missing, decimal=query.decimal)
    written, origin = await deps.reads.sheets.export(
        place.course, place.assignment, _basis(query.version), Names(), choice
    )
    tag = await asyncio.to_thread(lambda: sha256(written.data).hexdigest())
    name = f"{_name(place.assignment, origin)}.{query.format.suffix}"
    return made(request, written.data, name=name, media_type=query.format.media_type, more={"ETag": f'"{tag}"'})


@takes(Auth.COURSE, before=nothing, operation="ui.mergeGrades")
async def merge(request: Request, deps: Deps) -> Response:
    """Give a file back with grades in the cells of one column, or the list of those without a counterpart in it."""
    place = await place_of(request, deps)
    form: dict[str, str] = {}
    async with uploaded(request, deps.settings.http.spool_dir, limit=MAX_BYTES, files=1, fields=form) as files:
        data = await asyncio.to_thread(files[0].read, 0, files[0].size)
    query = check(_query(form), MergeQuery)
    choice = MergeChoice(column=query.column, keys=keys_of(query.key), by_name=query.by_name, missing=query.missing)
    names = Names([key.identifier for key in choice.keys])
    basis = _basis(query.version)
    merged, origin = await deps.reads.sheets.merge(place.course, place.assignment, basis, names, data, choice)
    name = _name(place.assignment, origin)
    if query.answer == "unmatched":
        return made(request, unmatched_csv(merged), name=f"{name}-unmatched.csv", media_type=CSV, more={})
    media_type = f"text/csv; charset={merged.charset}; header=present"
    return made(request, merged.data, name=f"{name}-merged.csv", media_type=media_type, more={})


def _query(form: Mapping[str, str]) -> dict[str, object]:
    """Return the query of a merge that a form means.

    Raises:
        Refused: 422, the form names no column.
    """
    if not form.get("column", "").strip():
        raise Refused(422, "column: name the column of the file whose cells get the grades")
    given: dict[str, object] = {name: form[name] for name in ("version", "answer") if form.get(name)}
    key = form.get("key", "").strip()
    return {**given, "column": form["column"].strip(), "key": (key,) if key else (), "by_name": "by_name" in form}


def _basis(version: str) -> Basis:
    return Basis(is_draft=version == "draft", number=int(version) if version.isdecimal() else None)


def _name(assignment: str, origin: Origin) -> str:
    return f"{assignment}-{'draft' if origin.version is None else f'v{origin.version}'}"
