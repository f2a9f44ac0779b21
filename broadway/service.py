"""The chassis of every long-running program: logging, signals, exit codes and connections."""

import asyncio
import contextlib
import io
import logging
import logging.handlers
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO, TypeVar

import prometheus_client
import stamina.instrumentation
import structlog
import uvloop
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import EventDict, ExcInfo, Processor

from broadway.installation import explain
from broadway.ports import PublishError
from broadway.rabbit.client import Rabbit
from broadway.rabbit.connecting import BrokerUnreachableError, UntrustedError
from broadway.runtime import crashpoints, disks, fault_history, supervision, tracing
from broadway.runtime.cancellation import cancellations, end
from broadway.runtime.visible import visible
from broadway.settings.grader import GraderSettings
from broadway.settings.loading import EX_CONFIG
from broadway.settings.places import directories, unusable_places
from broadway.settings.programs import ServiceSettings
from broadway.settings.sections import LogSettings, TraceSettings

log = structlog.get_logger(__name__)

Main = Callable[["Stop"], Awaitable[None]]

_RETRY_BROKER = 2  # seconds between two attempts to connect at start
_NOISY = ("aiormq", "aio_pika", "pymongo", "httpx2", "httpcore2", "urllib3", "docker", "uvicorn.access", "asyncio")


class StartError(Exception):
    """The program cannot start; the message gives the reason and the remedy."""

    exit_code = 1


class SettingError(StartError):
    """A setting is wrong, so that another start with the same settings would not help; the message names it."""


class Stop(asyncio.Event):
    """The order to end, which SIGTERM and SIGINT give.

    A program that is starting is cancelled: it may wait for something that never comes. Once it has started it calls
    ``heed`` and ends by itself when the event is set.
    """

    is_heeded = False

    def heed(self) -> None:
        """Take over: from now on the program ends by itself."""
        self.is_heeded = True
        supervision.ready()


def run(main: Main, *, service: str, settings: ServiceSettings | GraderSettings) -> None:
    """Run a program until it returns, with a stop event that SIGTERM and SIGINT set.

    Exits with 78 if a setting is wrong, and with 1 on any other StartError.
    """
    _require_places(settings, service)
    configure_logging(settings.log, service=service)
    crashpoints.arm(os.environ)
    fault_history.arm(os.environ)
    supervision.arm()
    disks.watch(directories(settings))
    try:
        with _metrics_endpoint(settings), _spans_exported(settings, service):
            uvloop.run(_supervised(main))
    except* StartError as group:
        is_lasting = all(isinstance(error, SettingError) for error in _leaves(group))
        raise _cannot_start(reasons(group), code=EX_CONFIG if is_lasting else 1) from None


def _cannot_start(why: Iterable[str], *, code: int) -> SystemExit:
    for reason in why:
        log.critical("cannot start", reason=reason)
    return SystemExit(code)


def _require_places(settings: ServiceSettings | GraderSettings, service: str) -> None:
    """End the program if a directory, a file or a port in its settings cannot be used; log that to stderr only."""
    if unusable := list(unusable_places(settings)):
        configure_logging(settings.log.model_copy(update={"dir": ""}), service=service)
        code = EX_CONFIG if all(each.is_lasting for each in unusable) else 1
        raise _cannot_start((each.text for each in unusable), code=code)


def reasons(group: BaseExceptionGroup[BaseException]) -> list[str]:
    """Return the distinct messages of the errors in a group and in its nested groups."""
    return list(dict.fromkeys(map(str, _leaves(group))))


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


async def _supervised(main: Main) -> None:
    """Run a program until it returns; SIGTERM and SIGINT end it, SIGHUP does if it has lost its terminal."""
    stop = Stop()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
        loop.add_signal_handler(signal.SIGHUP, stop.set if sys.stderr.isatty() else reopen_log_files)
    alive = asyncio.create_task(supervision.report_alive())
    try:
        await _run_until_stopped(main, stop)
    finally:
        alive.cancel()


async def _run_until_stopped(main: Main, stop: Stop) -> None:
    program, stopped = asyncio.create_task(_awaited(main(stop))), asyncio.create_task(stop.wait())
    await asyncio.wait((program, stopped), return_when=asyncio.FIRST_COMPLETED)
    if not (program.done() or stop.is_heeded):
        log.info("stopped before the start was complete")
        await end(program)
        return
    stopped.cancel()
    await program


def reopen_log_files() -> None:
    """Open the log files anew at the next line: a program such as logrotate has renamed them."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.acquire()
            try:
                handler.close()
            finally:
                handler.release()


@contextlib.asynccontextmanager
async def connected(url: str, *, service: str, tls: ssl.SSLContext | None = None) -> AsyncIterator[Rabbit]:
    """Connect to the broker, and retry until it is available.

    Raises:
        StartError: The server's certificate is not trusted.
    """
    async with contextlib.AsyncExitStack() as stack:
        while True:
            try:
                rabbit = await stack.enter_async_context(Rabbit.connect(url, service=service, tls=tls))
                break
            except UntrustedError as error:
                raise StartError(f"{error}; is --ca-file right?") from error
            except BrokerUnreachableError as error:
                _report_waiting(error)
                await asyncio.sleep(_RETRY_BROKER)
        yield rabbit


async def join(rabbit: Rabbit) -> None:
    """Connect to the broker and declare the topology, and retry until the broker is available.

    Raises:
        StartError: The server's certificate is not trusted.
    """
    while True:
        try:
            await rabbit.join()
            return await rabbit.declare_topology()
        except UntrustedError as error:
            raise StartError(f"{error}; is --ca-file right?") from error
        except (BrokerUnreachableError, PublishError) as error:
            _report_waiting(error)
            await asyncio.sleep(_RETRY_BROKER)


def _report_waiting(error: Exception) -> None:
    log.warning("waiting for the broker", reason=str(error))
    supervision.status(f"waiting for the broker: {error}")


@contextlib.contextmanager
def _spans_exported(settings: ServiceSettings | GraderSettings, service: str) -> Iterator[None]:
    """Export the spans of a control plane service while a block runs, if the settings name a collector.

    Raises:
        SettingError: The extra is not installed.
    """
    trace = settings.trace if isinstance(settings, ServiceSettings) else TraceSettings()
    endpoint = trace.endpoint.get_secret_value() if trace.endpoint else None
    with contextlib.ExitStack() as stack:
        exporting = tracing.exporting(endpoint, service=service, instance=instance(service), share=trace.share)
        try:
            stack.enter_context(exporting)
        except ModuleNotFoundError as error:
            raise SettingError(f"--trace-endpoint: {explain(error) or error}") from None
        yield


@contextlib.contextmanager
def _metrics_endpoint(settings: ServiceSettings | GraderSettings) -> Iterator[None]:
    """Serve the metrics of this process to Prometheus while a block runs, if the settings name a port.

    Raises:
        StartError: The address cannot be bound.
    """
    if not settings.metrics_port:
        yield
        return
    try:
        server, thread = prometheus_client.start_http_server(settings.metrics_port, settings.metrics_addr)
    except OSError as error:
        raise StartError(f"--metrics-port: {settings.metrics_addr}:{settings.metrics_port}: {error}") from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.asynccontextmanager
async def background(*coroutines: Awaitable[None]) -> AsyncIterator[None]:
    """Run coroutines beside a block and cancel them at its end. A failing coroutine ends the block with its error."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_awaited(coroutine)) for coroutine in coroutines]
        try:
            yield
        finally:
            await end(*tasks)
            for coroutine in coroutines:
                if isinstance(coroutine, Coroutine):
                    coroutine.close()  # it has not begun if the block ended at once


async def _awaited(coroutine: Awaitable[None]) -> None:
    """Await a coroutine; turn a cancellation that is not ours into an error, since the task would end silently."""
    before = cancellations()
    try:
        await coroutine
    except asyncio.CancelledError as error:
        if cancellations() > before:
            raise
        raise RuntimeError("a background task was cancelled from elsewhere") from error


Answer = TypeVar("Answer")


async def unless_stopped(waiting: Coroutine[Any, Any, Answer], stop: asyncio.Event) -> Answer | None:
    """Return a coroutine's result, or None if ``stop`` is set first."""
    task, stopped = asyncio.create_task(waiting), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait((task, stopped), return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        task.cancel()
        stopped.cancel()


def instance(service: str) -> str:
    """Return this process's name for consumer tags and connections: ``results@host:pid``."""
    return f"{service}@{os.uname().nodename}:{os.getpid()}"


def configure_logging(settings: LogSettings, *, service: str) -> None:
    """Log to stderr (JSON lines, or readable lines on a terminal) and to a rotated file of JSON lines."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
    ]
    if settings.timestamps:
        shared.append(structlog.processors.TimeStamper(fmt="iso", utc=True))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    stamina.instrumentation.set_on_retry_hooks([])  # code that retries logs that itself, once
    root = logging.getLogger()
    root.setLevel(settings.level)
    root.handlers = [_stderr_handler(shared), *_file_handlers(settings, service, shared)]
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
    # aiormq logs tracebacks whenever the broker becomes unavailable; our own lines report that already.
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)
    logging.getLogger("uvicorn.error").setLevel(max(logging.WARNING, root.level))  # our own lines have more details


def _stderr_handler(shared: list[Processor]) -> logging.Handler:
    handler = logging.StreamHandler()
    if sys.stderr is not None and sys.stderr.isatty():
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=_visible_traceback)
        handler.setFormatter(_formatter(shared, _made_visible, renderer))
    else:
        handler.setFormatter(_json_formatter(shared))
    return handler


def _made_visible(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Escape what a terminal would obey: reasons, names and the output of jobs are texts of others."""
    return {key: visible(value) if isinstance(value, str) else value for key, value in event.items()}


def _visible_traceback(stream: TextIO, error: ExcInfo) -> None:
    text = io.StringIO()
    structlog.dev.plain_traceback(text, error)
    stream.write(visible(text.getvalue()))


def _file_handlers(settings: LogSettings, service: str, shared: list[Processor]) -> list[logging.Handler]:
    if not settings.dir:
        return []
    directory = Path(settings.dir)
    directory.mkdir(parents=True, exist_ok=True)
    handler = logging.handlers.TimedRotatingFileHandler(
        directory / ("log" if service == "api" else f"{service.replace('/', '-')}.log"),
        when=settings.rotate,
        backupCount=settings.backup,
        delay=True,
    )
    handler.setFormatter(_json_formatter(shared))
    return [handler]


def _json_formatter(shared: list[Processor]) -> logging.Formatter:
    # Local variables of frames would put students' data and secrets into the log.
    errors = structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False, max_frames=20))
    return _formatter([*shared, errors], structlog.processors.JSONRenderer())


def _formatter(shared: list[Processor], *rendering: Processor) -> logging.Formatter:
    *foreign, last = [*shared, structlog.stdlib.ProcessorFormatter.remove_processors_meta]
    own = [p for p in shared if isinstance(p, structlog.processors.ExceptionRenderer)]
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=foreign, processors=[last, *own, *rendering])
