"""The undecided deliveries of one process, which are decided in a fair order. Pure."""

from collections import OrderedDict, deque

from broadway.domain.webhook import Delivery

MOST = 1000  # deliveries of all courses together; the store keeps the others
MOST_OF_COURSE = 250  # a course that sends many deliveries leaves room for those of other courses


class WaitingDeliveries:
    """Undecided deliveries, first in first out within a course; courses take turns.

    At most one delivery of a submitter is taken at a time, so that the decisions of a student's pushes come in the order
    of their arrival.
    """

    def __init__(self, *, most: int = MOST, most_of_course: int = MOST_OF_COURSE) -> None:
        self._most = most
        self._most_of_course = most_of_course
        self._waiting: OrderedDict[str, deque[Delivery]] = OrderedDict()  # by course, the next one's turn first
        self._known: set[str] = set()  # ids of deliveries that wait or are taken
        self._taken: set[tuple[object, ...]] = set()  # submitters
        self._length = 0

    def __len__(self) -> int:
        """The number of deliveries that are not taken."""
        return self._length

    def __contains__(self, delivery_id: str) -> bool:
        """True if a delivery waits or is taken."""
        return delivery_id in self._known

    def room(self, course: str) -> int:
        """Return how many further deliveries of a course may wait."""
        own = len(self._waiting.get(course, ()))
        return max(0, min(self._most - self._length, self._most_of_course - own))

    def add(self, delivery: Delivery) -> bool:
        """Add a delivery; return False if it waits already, is taken, or has no room."""
        if delivery.id in self._known or not self.room(delivery.course):
            return False
        self._known.add(delivery.id)
        self._waiting.setdefault(delivery.course, deque()).append(delivery)
        self._length += 1
        return True

    def take(self, number: int) -> list[Delivery]:
        """Take at most ``number`` deliveries, one course after another; each must be released."""
        taken: list[Delivery] = []
        resting: set[str] = set()  # courses of which each waiting delivery has a submitter that is taken
        while len(taken) < number and len(resting) < len(self._waiting):
            course, waiting = next(iter(self._waiting.items()))
            self._waiting.move_to_end(course)
            found = self._free(waiting)
            if found is None:
                resting.add(course)
                continue
            taken.append(found)
            self._taken.add(_submitter(found))
            if not waiting:
                del self._waiting[course]
        self._length -= len(taken)
        return taken

    def release(self, delivery: Delivery) -> None:
        """Forget a delivery that was taken."""
        self._known.discard(delivery.id)
        self._taken.discard(_submitter(delivery))

    def _free(self, waiting: deque[Delivery]) -> Delivery | None:
        """Remove and return the first delivery whose submitter is not taken, or None."""
        for index, delivery in enumerate(waiting):
            if _submitter(delivery) not in self._taken:
                del waiting[index]
                return delivery
        return None


def _submitter(delivery: Delivery) -> tuple[object, ...]:
    """Return the submitter of a delivery, as far as it is known before the decision."""
    push = delivery.push
    named = delivery.student or (push and (push.student or push.repository_id or push.repository))
    return delivery.course, delivery.assignment, named
