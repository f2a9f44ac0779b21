"""The sizes of measurements."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """Numbers of rounds, and sizes; times in seconds."""

    rounds: int = 5
    stage_rounds: int = 5
    class_rounds: int = 1
    stages: int = 8  # in one sample of throughput
    jobs: int = 500  # that are graded beside other work
    noop_jobs: int = 2000  # of one sample of the control plane
    latencies: int = 8  # per round
    roster: int = 1000
    students: int = 1000
    bereft_students: int = 160  # of a class that loses a grader
    sleep: float = 1.0
    busy_students: int = 80
    hostile_step: int = 4  # every how many submissions of the hostile corpus one is run
    hostile_students: int = 60
    push_rounds: int = 3
    pushes: int = 1000  # at a time
    watched: tuple[int, ...] = (20, 200)  # jobs of a run with a stream on each
    streams: int = 1000
    polls: tuple[int, ...] = (50, 200)  # of one run, per second
    polling: float = 10.0
    poll_rounds: int = 2
    queued: tuple[int, ...] = (100, 1_000, 5_000)
    history: tuple[int, ...] = (0, 20_000, 200_000)  # finished jobs of a course
    alert_rounds: int = 2  # of about a minute and a half
    asked: int = 200  # times that each read is asked: the clock of processes has steps of 10 ms
    large_runs: tuple[int, ...] = (1_000, 20_000)  # students
    graded: tuple[int, int] = (2_000, 20_000)  # students of a class, and their submissions
    year: tuple[int, int] = (500, 5_000)  # the same, of a course before a pass of retention
    graders: tuple[int, ...] = (1, 4, 16, 64)
    graders_jobs: int = 200
    fleets: tuple[int, ...] = (4, 20, 100, 200)  # graders of ten slots
    grader_slots: tuple[int, ...] = (1, 10, 100)
    fleet_jobs: int = 2000
    fleet_sleep: float = 30.0
    submissions: int = 12
    starts: int = 5
    run: int = 2_000  # students of a run whose pages are shown
    watchers: int = 500  # of one run
    watching: float = 15.0  # seconds for which they are observed
    reloads: int = 600  # students who reload at a deadline
    page_rounds: int = 2
    flood: int = 256 * 2**20  # bytes of output
    idle: float = 15.0  # seconds for which idle graders are observed


DEFAULT = Plan()
FULL = Plan(
    rounds=9,
    stage_rounds=7,
    class_rounds=3,
    stages=24,
    jobs=2000,
    noop_jobs=10_000,
    latencies=20,
    bereft_students=1000,
    busy_students=400,
    hostile_step=1,
    push_rounds=5,
    pushes=3000,
    queued=(100, 1_000, 10_000, 100_000),
    year=(2_000, 200_000),
    graders_jobs=2000,
    fleet_jobs=10_000,
    fleet_sleep=120.0,
    submissions=24,
    starts=10,
    flood=2**30,
    polling=30.0,
    poll_rounds=5,
    page_rounds=5,
    idle=60.0,
)
