"""The life of a service process, from its variables to its exit code."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from types import FrameType
from typing import NoReturn, TypeVar

import structlog
import uvloop

from libs.market.errors import ConfigError, K2Error
from libs.runtime import ballast
from libs.runtime.config import C, describe, load
from libs.runtime.serving import RunningService, Service, running
from libs.telemetry import logs, tracing

__all__ = ["RunningService", "Service", "main", "running"]

log = structlog.get_logger()
T = TypeVar("T")

EXIT_CLEAN = 0
EXIT_USAGE = 64
EXIT_FAILED = 70
EXIT_RESTART = 75
EXIT_CONFIG = 78
THREADS_TIMEOUT_S = 5.0
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

Build = Callable[[C], Awaitable[Service]]


def main(config_class: type[C], build: Build[C], argv: Sequence[str] | None = None) -> NoReturn:
    """Run a service until SIGTERM or SIGINT, then stop it in order and exit.

    Exit codes: 0 stopped when asked, 64 bad usage, 70 failed, 75 stopped in order to be started
    anew, 78 bad configuration. A second signal does not wait for the drain.
    """
    for number in STOP_SIGNALS:
        signal.signal(number, _exit_at_once)
    _parse(config_class, sys.argv[1:] if argv is None else argv)
    try:
        config = load(config_class)
    except ConfigError as error:
        print(error.message, file=sys.stderr)
        sys.exit(EXIT_CONFIG)
    sys.exit(_run(config, build))


def _exit_at_once(_: int, __: FrameType | None) -> NoReturn:
    """Nothing is held yet, or any more."""
    sys.exit(EXIT_CLEAN)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"{message}; --help shows the variables that configure it\n")


def _parse(config_class: type[C], argv: Sequence[str]) -> None:
    parser = _Parser(
        prog=f"python -m {config_class.__module__.removesuffix('.config')}",
        description=sys.modules[config_class.__module__].__doc__,
        epilog=f"Configured by these variables:\n\n{describe(config_class)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.parse_args(argv)


def _run(config: C, build: Build[C]) -> int:
    logs.set_up(config.name, level=config.log_level, format=config.log_format)
    provider = tracing.set_up(config.name, os.environ)
    ballast.carry(config.name)
    code = EXIT_FAILED
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            try:
                code = runner.run(_serve(config, build))
            finally:
                _end_within(THREADS_TIMEOUT_S, code)
            return code
    finally:
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        tracing.shut_down(provider)


def _end_within(timeout_s: float, code: int) -> None:
    """End the process even where a thread hangs: Python would wait for it for ever."""
    last_resort = threading.Timer(timeout_s, os._exit, (code,))
    last_resort.daemon = True
    last_resort.start()


def _keep_from_collector() -> None:
    """Never look again through what is there for good, modules most of all.

    A full collection stopped the query service for 82 ms, twice a minute.
    """
    gc.collect()
    gc.freeze()


async def _serve(config: C, build: Build[C]) -> int:
    stop = _stop_on_signals()
    try:
        service = await _unless(stop, build(config))
        if service is not None:
            _keep_from_collector()
            async with running(service) as run:
                await _unless(stop, _unless(service.restart_asked, run.ended()))
    except ConfigError as error:
        _say("bad_configuration", error)
        return EXIT_CONFIG
    except K2Error as error:
        _say("failed", error)
        return EXIT_FAILED
    except asyncio.CancelledError:
        log.warning("stopped_before_drained")
        return EXIT_FAILED
    anew = service is not None and service.restart_asked.is_set() and not stop.is_set()
    log.info("stopped", then="to be started anew" if anew else "")
    return EXIT_RESTART if anew else EXIT_CLEAN


def _say(event: str, error: K2Error) -> None:
    """Log a sentence and its facts, not a traceback."""
    log.error(event, error=error.message, reason=error.reason, **error.facts)


def _stop_on_signals() -> asyncio.Event:
    """Set the event on the first signal; cancel the caller's task on the second."""
    stop, task, loop = asyncio.Event(), asyncio.current_task(), asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        log.info("stopping", signal=signal.Signals(number).name, at_once=stop.is_set())
        if stop.is_set() and task is not None:
            task.cancel()
        stop.set()

    for number in STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal, number)
    return stop


async def _unless(stop: asyncio.Event, work: Awaitable[T]) -> T | None:
    """Finish the work, or cancel it and return None once `stop` is set."""
    doing, stopping = asyncio.ensure_future(work), asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({doing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return doing.result() if doing.done() else None
    finally:
        for future in (doing, stopping):
            future.cancel()
        await asyncio.gather(doing, stopping, return_exceptions=True)
