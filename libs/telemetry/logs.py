"""Structured logs on stderr: JSON for programs, colours for a terminal."""

from __future__ import annotations

import logging
import re
import sys
from types import TracebackType
from typing import Literal, cast

import structlog
from opentelemetry import trace
from structlog.typing import EventDict, Processor, WrappedLogger

Format = Literal["json", "console"]
Level = Literal["debug", "info", "warning", "error"]

# Libraries that say at INFO what K2 says better itself.
NOISY_LOGGERS = ("aiokafka", "pyiceberg", "grpc", "asyncio")
# aiokafka warns, several times, of what happens whenever a writer comes or goes.
USUAL = re.compile("^Heartbeat failed for group .* because it is rebalancing")


def set_up(service: str, *, level: Level = "info", format: Format | None = None) -> None:  # noqa: A002 (the word people know)
    """Send structlog's and the standard library's events to stderr; last call wins.

    Without `format`, a terminal gets the console format and everything else JSON.
    """
    threshold = logging.getLevelNamesMapping()[level.upper()]
    shared = _shared_processors(service)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    _route_standard_library(shared, _renderers(format or _format_of_stderr()), threshold)
    sys.excepthook = _log_crash


def _format_of_stderr() -> Format:
    return "console" if sys.stderr.isatty() else "json"


def _shared_processors(service: str) -> list[Processor]:
    def name_service(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
        event["service"] = service
        return event

    return [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        name_service,
        _name_trace,
    ]


def _name_trace(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
    return event


def _renderers(format: Format) -> list[Processor]:  # noqa: A002 (the word people know)
    if format == "console":
        return [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]


def _route_standard_library(
    shared: list[Processor], renderers: list[Processor], threshold: int
) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
        )
    )
    handler.addFilter(lambda record: not USUAL.match(record.getMessage()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(threshold)
    for name in NOISY_LOGGERS:
        logging.getLogger(name).setLevel(max(threshold, logging.WARNING))


def _log_crash(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())
    log.error("crashed", exc_info=error)
