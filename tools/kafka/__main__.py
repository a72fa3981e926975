"""Run the development broker until Ctrl-C: python -m tools.kafka --data DIR."""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

from libs.market.errors import K2Error
from tools.kafka.broker import LocalKafka

_EXIT_FAILED = 1


def main() -> int:
    arguments = _arguments()
    signals = {signal.SIGINT, signal.SIGTERM}
    kafka = LocalKafka(
        arguments.data, port=arguments.port, java=arguments.java, progress=_show_progress
    )
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        kafka.start()
        print(f"Kafka listens at {kafka.bootstrap}; Ctrl-C stops it", flush=True)
        signal.pause()
    except K2Error as error:
        print(error.message, file=sys.stderr)
        return _EXIT_FAILED
    except KeyboardInterrupt:
        pass
    finally:
        signal.pthread_sigmask(signal.SIG_BLOCK, signals)
        kafka.stop()
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.kafka", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(".k2/data/kafka"), help="data folder")
    parser.add_argument("--port", type=int, default=0, help="0: the folder's own, or a free one")
    parser.add_argument("--java", type=Path, help="java command, or JAVA_HOME (Java 17 or newer)")
    return parser.parse_args()


def _show_progress(done: int, total: int) -> None:
    end = "\n" if done == total else ""
    print(f"\rDownloading Kafka: {done} of {total} files", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
