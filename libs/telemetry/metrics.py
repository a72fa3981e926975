"""The Prometheus page of a process. Metrics are declared beside what they measure."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from wsgiref.simple_server import WSGIServer

from prometheus_client import disable_created_metrics, start_http_server

from libs.telemetry.ports import CannotListenError, split_address


@dataclass(frozen=True, slots=True)
class MetricsPage:
    """Where `/metrics` is served; `address` has the port that was taken."""

    address: str
    _server: WSGIServer
    _thread: threading.Thread

    def stop(self) -> None:
        """Free the port. Blocks up to half a second."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve(address: str) -> MetricsPage:
    """Serve every declared metric over HTTP at `address` (host:port; port 0 takes a free one).

    Raises:
        CannotListenError: the address is in use or not of this machine.
    """
    host, port = split_address(address)
    # A second series for each counter and histogram, which nobody asks for.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        server, thread = start_http_server(port, addr=host)
    except OSError as error:
        raise CannotListenError(address, error) from error
    return MetricsPage(f"{host}:{server.server_port}", server, thread)
