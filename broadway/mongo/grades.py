"""The collections of grades: the books, and all that decides on a grade beside submissions and their results."""

from dataclasses import dataclass
from typing import Any, Self

from pymongo.asynchronous.database import AsyncDatabase

from broadway.mongo.extensions import ChosenSubmissionStore, Extensions, LateDayClaimStore
from broadway.mongo.grade_adjustments import GradeAdjustments
from broadway.mongo.grade_books import GradeBooks
from broadway.mongo.graded_works import GradedWorks
from broadway.mongo.regrades import Regrades
from broadway.mongo.work_results import WorkResults


@dataclass(frozen=True, slots=True)
class GradeStores:
    """The collections of grades."""

    books: GradeBooks
    adjustments: GradeAdjustments
    works: GradedWorks
    extensions: Extensions
    claims: LateDayClaimStore
    choices: ChosenSubmissionStore
    regrades: Regrades

    @classmethod
    def of(cls, main: AsyncDatabase[dict[str, Any]], results: WorkResults) -> Self:
        """Return the collections of a database."""
        return cls(
            books=GradeBooks(main["grade_entries"], main["grade_book"], main["grade_book_published"]),
            adjustments=GradeAdjustments(main["grade_adjustment"]),
            works=GradedWorks(main["submission"], results, main["grading_job"]),
            extensions=Extensions(main["extension"]),
            claims=LateDayClaimStore(main["late_day_claim"]),
            choices=ChosenSubmissionStore(main["chosen_submission"]),
            regrades=Regrades(main["regrade"], main["regrade_part"]),
        )

    async def ensure_indexes(self) -> None:
        await self.books.ensure_indexes()
        await self.extensions.ensure_indexes()
        await self.claims.ensure_indexes()
        await self.choices.ensure_indexes()
        await self.regrades.ensure_indexes()
