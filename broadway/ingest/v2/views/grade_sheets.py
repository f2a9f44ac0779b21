"""Files of grades as resources. Long lists are cut; the counts and the files have all."""

from base64 import b64encode
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import islice

from broadway.domain.sheets.adjusting import Adjustment
from broadway.domain.sheets.entries import LeftOut, Written, errors
from broadway.domain.sheets.matching import UnmatchedRow
from broadway.domain.sheets.merging import Merged, counts
from broadway.domain.sheets.numbers import written
from broadway.domain.sheets.writing import unmatched_csv
from broadway.ingest.reads.grade_sheets import Imported, Origin
from broadway.messages.resources.grade_sheets import (
    MAX_LISTED,
    AdjustmentPreview,
    ChangeView,
    ExportView,
    ImportView,
    LeftOutStudent,
    MergeView,
    SheetFile,
    UnmatchedRowView,
)

CSV = "text/csv; charset=utf-8; header=present"


def sheet_file(name: str, media_type: str, data: bytes) -> SheetFile:
    return SheetFile(name=name, media_type=media_type, content=b64encode(data).decode("ascii"))


def export_view(made: Written, origin: Origin, file: SheetFile) -> ExportView:
    return ExportView(
        version=origin.version,
        version_at=origin.at,
        complete=made.is_complete(),
        errors=errors(made.held),
        held=_left_out(made.held),
        notes=list(made.notes),
        file=file,
        counts={"held": len(made.held), "left out": len(made.left_out)},
        left_out=_left_out(made.left_out),
    )


def merge_view(merged: Merged, origin: Origin, file: SheetFile, unmatched_name: str) -> MergeView:
    return MergeView(
        version=origin.version,
        version_at=origin.at,
        complete=merged.is_complete(),
        errors=errors(merged.held),
        held=_left_out(merged.held),
        notes=list(merged.notes),
        file=file,
        unmatched=sheet_file(unmatched_name, CSV, unmatched_csv(merged)),
        lms=merged.lms.value,
        column=merged.column,
        counts=dict(counts(merged)),
        changes=[
            ChangeView(row=each.row, student=each.student, before=each.before, after=each.after)
            for each in merged.changes[:MAX_LISTED]
        ],
        unmatched_students=_left_out(merged.unmatched_students),
        unmatched_rows=_rows(merged.unmatched_rows),
    )


def import_view(found: Imported, *, is_applied: bool) -> ImportView:
    preview, plan = found.preview, found.plan
    return ImportView(
        version=found.origin.version,
        applied=is_applied,
        counts={
            "changes": len(plan.adjustments),
            "made before": plan.done,
            "obstacles": len(plan.obstacles),
            "same": preview.same,
            "unknown students": len(preview.unknown),
            "students without a row": len(preview.absent),
        },
        changes=[_adjustment(each) for each in plan.adjustments[:MAX_LISTED]],
        obstacles=_left_out(plan.obstacles),
        unknown=_rows(preview.unknown),
        absent=_left_out(preview.absent),
    )


def _left_out(found: Iterable[LeftOut]) -> list[LeftOutStudent]:
    return [LeftOutStudent(student=each.student, reason=each.reason) for each in islice(found, MAX_LISTED)]


def _rows(found: Sequence[UnmatchedRow]) -> list[UnmatchedRowView]:
    return [UnmatchedRowView(row=each.row, label=each.label, reason=each.reason) for each in found[:MAX_LISTED]]


def _adjustment(each: Adjustment) -> AdjustmentPreview:
    return AdjustmentPreview(
        row=each.row,
        student=each.student,
        before=_points(each.before),
        after=_points(each.after),
        excused=each.excused,
        reason=each.reason,
    )


def _points(points: Decimal | None) -> str | None:
    return None if points is None else written(points)
