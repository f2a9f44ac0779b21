"""The undecided deliveries of one process, which are decided in a fair order. Pure."""

from collections import OrderedDict, deque
from datetime import datetime

from broadway.domain.webhook import Delivery

MOST = 500  # deliveries of all courses together; the store keeps the others
MOST_OF_COURSE = 125  # a course that sends many deliveries leaves room for those of other courses


class WaitingDeliveries:
    """Undecided deliveries, first in first out within a course; courses take turns.

    At most one delivery of a submitter is taken at a time, so that a student's pushes are decided in the order of their
    arrival.
    """

    def __init__(self, *, most: int = MOST, most_of_course: int = MOST_OF_COURSE) -> None:
        self._most = most
        self._most_of_course = most_of_course
        self._waiting: dict[str, Delivery] = {}  # by id
        self._lines: OrderedDict[str, deque[str]] = OrderedDict()  # ids by course, the next one's turn first
        self._taken: set[tuple[object, ...]] = set()  # submitters

    def __len__(self) -> int:
        """The number of deliveries that are not taken."""
        return len(self._waiting)

    def room(self, course: str) -> int:
        """Return how many further deliveries of a course have room."""
        own = len(self._lines.get(course, ()))
        return max(0, min(self._most - len(self._waiting), self._most_of_course - own))

    def full_courses(self) -> list[str]:
        """Return the courses of which no further delivery has room although others' may have."""
        return [course for course, line in self._lines.items() if len(line) >= self._most_of_course]

    def add(self, delivery: Delivery) -> None:
        """Add a delivery, which must not wait already, as the last one of its course."""
        self._waiting[delivery.id] = delivery
        self._lines.setdefault(delivery.course, deque()).append(delivery.id)

    def replace(self, delivery: Delivery) -> None:
        """Replace a waiting delivery by a changed one; do nothing if it does not wait."""
        if delivery.id in self._waiting:
            self._waiting[delivery.id] = delivery

    def due(self, until: datetime) -> list[Delivery]:
        """Return the waiting deliveries that are due at a time."""
        return [each for each in self._waiting.values() if each.due_at and each.due_at <= until]

    def take(self, number: int) -> list[Delivery]:
        """Take at most ``number`` deliveries, one of a course after one of another; each must be released."""
        taken: list[Delivery] = []
        resting = 0  # courses in a row of which each waiting delivery has a submitter that is taken
        while len(taken) < number and resting < len(self._lines):
            course, line = next(iter(self._lines.items()))
            self._lines.move_to_end(course)
            found = self._first_free(line)
            if found is None:
                resting += 1
                continue
            resting = 0
            taken.append(found)
            self._taken.add(_submitter(found))
            if not line:
                del self._lines[course]
        return taken

    def release(self, delivery: Delivery) -> None:
        """Let the next delivery of a taken delivery's submitter be taken."""
        self._taken.discard(_submitter(delivery))

    def _first_free(self, line: deque[str]) -> Delivery | None:
        """Remove and return the first delivery of a line whose submitter is not taken, or None."""
        for index, delivery_id in enumerate(line):
            if _submitter(self._waiting[delivery_id]) not in self._taken:
                del line[index]
                return self._waiting.pop(delivery_id)
        return None


def _submitter(delivery: Delivery) -> tuple[object, ...]:
    """Return the submitter of a delivery, as far as it is known before the decision."""
    push = delivery.push
    named = delivery.student or (push and (push.student or push.repository_id or push.repository))
    return delivery.course, delivery.assignment, named
