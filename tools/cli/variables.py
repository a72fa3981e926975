"""K2_* variables of the `k2` command: what neither it nor a service knows is refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib import import_module

from libs.market.errors import ConfigError

# What the command itself reads; with these alone no service's configuration is imported.
OWN_VARIABLES = frozenset(
    {
        "K2_GOVERNOR_ADDRESS",
        "K2_HOME",
        "K2_INGESTOR_ADDRESS",
        "K2_JAVA",
        "K2_KAFKA_BOOTSTRAP",
        "K2_QUERY_ADDRESS",
        "K2_REALDATA",
        "K2_RUN_DIR",
        "K2_TOOLS_DIR",
        "K2_WRITER_ADDRESS",
    }
)
CONFIGS = {
    "governor": "GovernorConfig",
    "ingestor": "IngestorConfig",
    "query": "QueryConfig",
    "writer": "WriterConfig",
}
FOREIGN_PREFIXES = ("K2_TEST_", "K2_BENCH_")


def check(environ: Mapping[str, str]) -> None:
    """Refuse a variable that nothing of K2 reads: it is a slip of the pen.

    Raises:
        ConfigError: names each, and the known one nearest to it.
    """
    given = {name for name, value in environ.items() if name.startswith("K2_") and value}
    strange = {name for name in given - OWN_VARIABLES if not name.startswith(FOREIGN_PREFIXES)}
    if not strange:
        return
    known = OWN_VARIABLES | of_services()
    unknown = sorted(strange - known)
    if unknown:
        sentences = (_sentence(name, known) for name in unknown)
        raise ConfigError("; ".join(sentences), mistakes=tuple(unknown))


def of_services() -> frozenset[str]:
    """Return every variable that a service reads; importing them takes a moment."""
    config = import_module("libs.runtime.config")
    kinds = (getattr(import_module(f"services.{s}.config"), name) for s, name in CONFIGS.items())
    return frozenset(config.SHARED_VARIABLES).union(*map(config.variables, kinds))


def _sentence(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.7)
    hint = f"did you mean {near[0]}?" if near else "unset it"
    return f"{name} is not a variable of K2: {hint}"
