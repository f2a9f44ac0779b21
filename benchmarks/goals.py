"""The goals for Broadway's performance: mostly ratios, which mean the same on every machine."""

from collections.abc import Callable, Sequence

from benchmarks import (
    alerts,
    classes,
    control_plane,
    deliveries,
    demo_class,
    fleet,
    grade_sheets,
    grades,
    growth,
    hostile,
    large_runs,
    live_logs,
    pages,
    polls,
    regrades,
    retention,
    scale,
    stages,
    startup,
    streams,
)
from benchmarks.control_plane import BROADWAY
from benchmarks.plan import Plan
from benchmarks.samples import Figure, Results
from benchmarks.verdicts import Goal

CELERY_MONGODB = "Celery, MongoDB results"


def goals(plan: Plan) -> list[Goal]:
    """Return all goals, for the sizes of a plan."""
    return [
        *_of_stages(),
        *_of_the_control_plane(),
        *_of_classes(),
        *_of_the_demo(),
        *_of_hostile_ones(),
        *_of_scale(plan),
        *_of_reads(plan),
        *_of_growth(plan),
        *_of_grades(plan),
        *_of_regrades(plan),
        *_of_retention(plan),
        *_of_large_runs(plan),
        *_of_starts(),
        *_of_deliveries(),
        *_of_grade_sheets(),
        *_of_live_logs(),
        *_of_alerts(),
        *_of_fleets(plan),
        *_of_pages(plan),
    ]


def _of_alerts() -> list[Goal]:
    name = "a dead engine: until its alert fires, s"
    return [Goal("alerts", name, _value(alerts.DELAY, alerts.ENGINE), 75, is_floor=False)]


def _of_stages() -> list[Goal]:
    def most(name: str, figure: Figure, contender: str, bound: float) -> Goal:
        return Goal("stages", name, _ratio(figure, contender, stages.DOCKER_RUN), bound, is_floor=False)

    def least(name: str, figure: Figure, contender: str, other: str, bound: float) -> Goal:
        return Goal("stages", name, _ratio(figure, contender, other), bound, is_floor=True)

    run, docker = stages.DOCKER_RUN, stages.DOCKER
    return [
        most("Docker: a stage's overhead, of docker run's", stages.WALL, docker, 0.50),
        least("Docker: stages/s, times docker run's", stages.BEST, docker, run, 1.7),
        least("Docker with crun: stages/s, times docker run's", stages.BEST, stages.DOCKER_CRUN, run, 2.2),
        least("Docker: jobs/s, times the original's without network", stages.JOBS, docker, stages.ORIGINAL, 1.1),
        least("Docker: jobs/s, times the original's as it comes", stages.JOBS, docker, stages.ORIGINAL_BRIDGE, 2.5),
        most("Docker: added to a stage of 0.3 s, of docker run's", stages.ADDED, docker, 0.45),
        most("oci, strict: a stage's overhead, of docker run's", stages.WALL, stages.OCI, 0.08),
        least("oci, strict: stages/s, times docker run's", stages.BEST, stages.OCI, run, 18),
        Goal(
            "stages",
            "oci, strict: CPU of a stage, times the kernel's part alone",
            _ratio(stages.CPU, stages.OCI, stages.KERNEL),
            2.0,
            is_floor=False,
        ),
    ]


def _of_regrades(plan: Plan) -> list[Goal]:
    contender = regrades.of_class(*plan.graded)
    return [
        Goal("regrades", f"{contender}: {name}, s", _value(figure, contender), 1, is_floor=False)
        for name, figure in (("the difference", regrades.SHOWN), ("a page of students", regrades.ROWS))
    ]


def _of_retention(plan: Plan) -> list[Goal]:
    contender = grades.of_class(*plan.year)

    def most(name: str, figure: Figure, bound: float) -> Goal:
        return Goal("retention", f"{contender}: {name}", _value(figure, contender), bound, is_floor=False)

    return [
        most("jobs left after a pass, times those of published grades", retention.LEFT, 1),
        most("grade books changed by a pass", retention.CHANGED, 0),
        most("CPU of a pass, per removed job, ms", retention.COST, 5),
    ]


def _of_grades(plan: Plan) -> list[Goal]:
    contender = grades.of_class(*plan.graded)

    def most(name: str, figure: Figure, bound: float) -> Goal:
        return Goal("grades", f"{contender}: {name}, s", _value(figure, contender), bound, is_floor=False)

    return [
        most("the draft, read first", grades.FIRST, 1),
        most("the draft, read again", grades.AGAIN, 1),
        most("the publication", grades.PUBLISHED, 1),
        most("the published grades", grades.BOOK, 1),
        most("the grade of a student", grades.ONE, 0.1),
    ]


def _of_the_control_plane() -> list[Goal]:
    few, many = f"{control_plane.SLOTS} slots", f"{control_plane.MANY_SLOTS} slots"
    cost = "CPU of a no-op job, times Celery's with MongoDB results"
    rate = "no-op jobs/s, times Celery's with MongoDB results"

    def of_few(figure: Figure) -> Callable[[Results], float]:
        return _ratio(figure, BROADWAY, CELERY_MONGODB)

    def of_many(figure: Figure) -> Callable[[Results], float]:
        return _ratio(figure, control_plane.on_many_slots(BROADWAY), control_plane.on_many_slots(CELERY_MONGODB))

    return [
        Goal("control-plane", f"{few}: {cost}", of_few(control_plane.CPU), 1.8, is_floor=False),
        Goal("control-plane", f"{many}: {cost}", of_many(control_plane.CPU), 1.3, is_floor=False),
        Goal("control-plane", f"{few}: {rate}", of_few(control_plane.JOBS), 0.50, is_floor=True),
        Goal("control-plane", f"{many}: {rate}", of_many(control_plane.JOBS), 0.55, is_floor=True),
        Goal(
            "control-plane",
            "idle: submission to start, p50, times its writes and messages alone",
            _ratio(control_plane.START, BROADWAY, control_plane.FLOOR),
            1.7,
            is_floor=False,
        ),
    ]


def _of_classes() -> list[Goal]:
    def least(name: str, figure: Figure, runtime: str, bound: float) -> Goal:
        return Goal("classes", name, _value(figure, runtime), bound, is_floor=True)

    return [
        least("oci: a class of sleepers, of its ideal", classes.SLEEPING, stages.OCI, 0.95),
        least("Docker: a class of sleepers, of its ideal", classes.SLEEPING, stages.DOCKER, 0.85),
        least("oci: CPU-bound jobs, of their ideal", classes.BUSY, stages.OCI, 0.85),
        least("Docker: a grader killed half-way, of the ideal of the rest", classes.BEREFT, stages.DOCKER, 0.90),
    ]


def _of_the_demo() -> list[Goal]:
    def most(name: str, figure: Figure) -> Goal:
        return Goal("demo-class", name, _ratio(figure, stages.OCI, stages.DOCKER), 0.5, is_floor=False)

    return [
        most("oci: the demo's class on `broadway up`, of Docker's time", demo_class.CLASS),
        most("oci: the same without those who wait for time limits, of Docker's time", demo_class.HONEST),
    ]


def _of_hostile_ones() -> list[Goal]:
    def worst(name: str, contender: str) -> Goal:
        def of(results: Results) -> float:
            return max(results.of(hostile.BESIDE, contender))

        return Goal("neighbours", name, of, hostile.SLOWER, is_floor=False)

    half = _value(hostile.MIXED, stages.DOCKER)
    return [
        Goal("hostile-class", "Docker: a class half of which is hostile, of its halves", half, 1.3, is_floor=False),
        worst("Docker: an honest job beside a hostile one, times alone", stages.DOCKER),
        worst("oci: an honest job beside a hostile one, times alone", stages.OCI),
        worst("gVisor: an honest job beside a hostile one, times alone", hostile.GVISOR),
    ]


def _of_scale(plan: Plan) -> list[Goal]:
    few, many = scale.queued(plan.queued[0]), scale.queued(plan.queued[-1])
    idle = scale.graders(plan.graders[-1])

    def growth(name: str, figures: Sequence[Figure]) -> Goal:
        def of(results: Results) -> float:
            return max(results.ratio(figure, many, few) for figure in figures)

        return Goal("queues", name, of, 1.2, is_floor=False)

    memories = [scale.memory_of(role) for role in (*scale.CONTROL_PLANE, scale.GRADERS)]
    few_streams, many_streams = streams.watched(plan.watched[0]), streams.watched(plan.watched[-1])
    watched = _ratio(streams.COST, many_streams, few_streams)
    return [
        Goal(
            "streams", f"CPU of a job with {many_streams}, times that with {few_streams}", watched, 1.5, is_floor=False
        ),
        growth(f"CPU of a job with {many}, times that with {few}", [scale.COST]),
        growth(f"memory of a process with {many}, times that with {few}", memories),
        Goal("graders", f"control plane with {idle} idle, % of a core", _value(scale.IDLE, idle), 3, is_floor=False),
    ]


def _of_reads(plan: Plan) -> list[Goal]:
    few, many = polls.polls(plan.polls[0]), polls.polls(plan.polls[-1])

    def most(name: str, figure: Figure, contender: str, bound: float) -> Goal:
        return Goal("polls", f"{contender}: {name}", _value(figure, contender), bound, is_floor=False)

    def beside(streamed: str) -> Goal:
        ratio = _ratio(streams.BESIDE, streamed, streams.watched(0))
        return Goal("many-streams", f"CPU of a job with {streamed}, times that without", ratio, 1.1, is_floor=False)

    return [
        most("refused, %", polls.REFUSED, few, 0),
        most("a poll's answer, p99, ms", polls.POLL, few, 500),
        *(most("a submission's answer, p99, ms", polls.SUBMISSION, each, 500) for each in (few, many)),
        *(most("refused submissions", polls.REFUSED_SUBMISSIONS, each, 0) for each in (few, many)),
        most("refusals without Retry-After", polls.UNTIMED, many, 0),
        most("an answer 2 s after their end, ms", polls.AFTER, many, 500),
        beside(streams.in_line(plan.streams)),
        beside(streams.watched(plan.streams)),
    ]


def _of_growth(plan: Plan) -> list[Goal]:
    short, long = growth.history(plan.history[0]), growth.history(plan.history[-1])

    def dearest(results: Results) -> float:
        return max(results.ratio(growth.read(name), long, short) for name in growth.NAMES)

    job = _ratio(growth.COST, long, short)
    return [
        Goal(
            "history", f"CPU of the read that grows most, with {long}, times with {short}", dearest, 1.3, is_floor=False
        ),
        Goal("history", f"CPU of a job with {long}, times with {short}", job, 1.2, is_floor=False),
    ]


def _of_grade_sheets() -> list[Goal]:
    contenders = (grade_sheets.EXPORT, grade_sheets.DRAFT, grade_sheets.MERGE)
    return [
        Goal("grade-sheets", f"{each}, s", _value(grade_sheets.WALL, each), 1, is_floor=False) for each in contenders
    ]


def _of_large_runs(plan: Plan) -> list[Goal]:
    largest = large_runs.students(plan.large_runs[-1])
    accepted, beside = (_value(figure, largest) for figure in (large_runs.ACCEPTED, large_runs.BESIDE))
    return [
        Goal("large-runs", f"a run of {largest}: until its answer, s", accepted, 5, is_floor=False),
        Goal("large-runs", f"a submission beside a run of {largest}: until its start, s", beside, 1, is_floor=False),
    ]


def _of_starts() -> list[Goal]:
    return [
        Goal("startup", "`broadway --help`, ms", _value(startup.HELP, BROADWAY), 150, is_floor=False),
        Goal("startup", "`broadway up` until ready, s", _value(startup.UP, BROADWAY), 10, is_floor=False),
    ]


def _of_deliveries() -> list[Goal]:
    def most(name: str, of: Callable[[Results], float], bound: float) -> Goal:
        return Goal("deliveries", name, of, bound, is_floor=False)

    def in_all(figure: Figure) -> Callable[[Results], float]:
        contenders = (deliveries.ANSWERS, deliveries.GRADING, deliveries.BACKLOG)
        return lambda results: max(results.value(figure, each) for each in contenders)

    own = _ratio(deliveries.COST, deliveries.ANSWERS, deliveries.BARE)
    return [
        most(
            "100 pushes/s, with and without grading and a backlog: p99 of an answer, ms", in_all(deliveries.P99), 1000
        ),
        most("100 pushes/s, with and without grading and a backlog: refused, %", in_all(deliveries.REFUSED), 0),
        most("CPU of a push with its queued job, times a bare endpoint's", own, 7),
    ]


def _of_live_logs() -> list[Goal]:
    found = []
    for runtime in (stages.DOCKER, stages.OCI):
        read, unread = (live_logs.contender(runtime, reads=reads) for reads in (True, False))
        ratio = _ratio(live_logs.WALL, read, unread)
        found += [
            Goal("live-logs", f"{runtime}: a flooding job with a reader, times without", ratio, 1.1, is_floor=False),
            Goal("live-logs", f"{read}: growth of memory, MiB", _value(live_logs.GROWTH, read), 32, is_floor=False),
        ]
    return found


def _of_fleets(plan: Plan) -> list[Goal]:
    few, many = (fleet.slots(fleet.SLOTS * plan.fleets[index]) for index in (1, -1))
    jobs, memory = _ratio(fleet.JOBS, many, few), _value(fleet.memory_of("broker"), many)

    def idle(results: Results) -> float:
        return sum(results.value(fleet.idle_of(role), many) for role in scale.CONTROL_PLANE)

    return [
        Goal("fleets", f"no-op jobs/s with {many}, times with {few}", jobs, 0.8, is_floor=True),
        Goal("fleets", f"{many}: a class of sleepers, of its ideal", _value(fleet.USED, many), 0.8, is_floor=True),
        Goal(
            "fleets",
            f"{many}, full: one student's submission until its start, p50, ms",
            _value(fleet.BUSY_START, many),
            1000,
            is_floor=False,
        ),
        Goal("fleets", f"{many}: memory of the broker, MiB", memory, 1024, is_floor=False),
        Goal("fleets", f"{many}, idle: CPU of the control plane, % of a core", idle, 10, is_floor=False),
    ]


def _of_pages(plan: Plan) -> list[Goal]:
    def largest(figure: Figure) -> Callable[[Results], float]:
        return lambda results: max(results.value(figure, page) for page in pages.LOADED)

    def most(name: str, of: Callable[[Results], float], bound: float) -> Goal:
        return Goal("pages", name, of, bound, is_floor=False)

    many, none = pages.watchers(plan.watchers), pages.watchers(0)
    return [
        most("first load of the largest page, compressed, kB", largest(pages.BYTES), 60),
        most("first load of a page: requests", largest(pages.REQUESTS), 6),
        most(f"a page of a run of {plan.run:,} that goes on: p95, ms", _value(pages.SHOWN, pages.RUN), 100),
        most(
            f"{many} of a run with 10 changes/s: CPU of ingest and store, of a core, %",
            lambda results: results.value(pages.WATCHING, many) - results.value(pages.WATCHING, none),
            25,
        ),
        most(
            f"{plan.reloads} students reload within 10 s while grading goes on: p99, ms",
            _value(pages.STORM, pages.RUN),
            1000,
        ),
        most(
            f"{plan.reloads} students reload within 10 s while grading goes on: refused",
            _value(pages.STORM_REFUSED, pages.RUN),
            0,
        ),
    ]


def _value(figure: Figure, contender: str) -> Callable[[Results], float]:
    return lambda results: results.value(figure, contender)


def _ratio(figure: Figure, contender: str, other: str) -> Callable[[Results], float]:
    return lambda results: results.ratio(figure, contender, other)
