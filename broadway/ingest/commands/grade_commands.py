"""All use cases that change grades, or that decide on them."""

from dataclasses import dataclass

from broadway.ingest.commands.claims import StudentClaims
from broadway.ingest.commands.extensions import ExtensionChanges
from broadway.ingest.commands.grade_adjustments import GradeAdjusting
from broadway.ingest.commands.grades import GradeChanges
from broadway.ingest.commands.regrade import Regrades
from broadway.ingest.commands.regrade_steps import RegradeSteps


@dataclass(frozen=True, slots=True)
class GradeCommands:
    """The use cases of one deployment."""

    books: GradeChanges
    adjusting: GradeAdjusting
    extensions: ExtensionChanges
    claims: StudentClaims
    regrades: Regrades
    regrade_steps: RegradeSteps
