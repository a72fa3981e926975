"""Configuration: every mistake named at once, unknown variables refused, a table for people."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, ValidationError

from libs.market.errors import ConfigError
from libs.runtime.config import Address, Bytes, CommaList, ServiceConfig, describe, load


class WriterLike(ServiceConfig):
    """A service's own fields beside the common ones."""

    name: str = Field("writer-1", validation_alias="K2_SERVICE_NAME", description="its name")
    address: Address = Field(
        "127.0.0.1:7102", validation_alias="K2_WRITER_GRPC_ADDRESS", description="where it listens"
    )
    flush_after_s: float = Field(
        10, gt=0, validation_alias="K2_WRITER_FLUSH_AFTER_S", description="most time to a commit"
    )
    flush_after_bytes: Bytes = Field(
        Bytes(64 << 20), validation_alias="K2_WRITER_FLUSH_AFTER_BYTES", description="most bytes"
    )
    topics: CommaList = Field(
        (), validation_alias="K2_WRITER_TOPICS", description="topics, with commas"
    )


class Required(ServiceConfig):
    url: str = Field(validation_alias="K2_QUERY_URL", description="cannot be guessed")


def mistakes_of(environ: dict[str, str], kind: type[ServiceConfig] = WriterLike) -> str:
    with pytest.raises(ConfigError) as told:
        load(kind, environ)
    return told.value.message


def test_variables_are_read_by_type() -> None:
    """Numbers, byte sizes, comma lists, paths and addresses come in as what they are."""
    config = load(
        WriterLike,
        {
            "K2_WRITER_FLUSH_AFTER_S": "2.5",
            "K2_WRITER_FLUSH_AFTER_BYTES": "8MiB",
            "K2_WRITER_TOPICS": "a, b,,c",
            "K2_WRITER_GRPC_ADDRESS": ":0",
            "K2_RUN_DIR": "/tmp/run",
            "HOME": "/root",
        },
    )

    assert config.flush_after_s == 2.5
    assert config.flush_after_bytes == 8 << 20
    assert config.topics == ("a", "b", "c")
    assert config.address == "127.0.0.1:0"
    assert config.run_dir == Path("/tmp/run")
    assert config.name == "writer-1"


def test_every_mistake_is_named_at_once() -> None:
    """Wrong values and unknown variables together, each by its variable."""
    message = mistakes_of(
        {
            "K2_WRITER_FLUSH_AFTER_S": "soon",
            "K2_WRITER_GRPC_ADDRESS": "localhost",
            "K2_LOG_LEVEL": "loud",
            "K2_WRITER_FLUSH_AFTER": "3",
            "K2_NONSENSE": "1",
        }
    )

    assert message.startswith("the configuration has 5 mistakes:")
    assert "K2_WRITER_FLUSH_AFTER_S='soon'" in message
    assert "K2_WRITER_GRPC_ADDRESS='localhost': 'localhost' is not host:port" in message
    assert "K2_LOG_LEVEL='loud'" in message
    assert "K2_NONSENSE is not a variable of this service" in message
    assert "did you mean K2_WRITER_FLUSH_AFTER_S?" in message


def test_a_mistake_does_not_tell_a_password() -> None:
    """The value is shown, but for what stands between : and @ of a URL."""
    message = mistakes_of({"K2_KAFKA_BOOTSTRAP": "kafka://k2:secret@broker:9092"})

    assert "K2_KAFKA_BOOTSTRAP='kafka://k2:***@broker:9092'" in message


def test_missing_required_variable_is_named() -> None:
    """It is said which variable to set."""
    assert "K2_QUERY_URL: Field required" in mistakes_of({}, Required)


def test_empty_variable_counts_as_absent() -> None:
    """As in a compose file that passes on what may not be set."""
    assert load(WriterLike, {"K2_WRITER_FLUSH_AFTER_S": ""}).flush_after_s == 10
    assert "K2_QUERY_URL: Field required" in mistakes_of({"K2_QUERY_URL": ""}, Required)


def test_variables_of_others_are_passed_over() -> None:
    """One environment serves all processes; a typo in one's own prefix is still found."""
    environ = {
        "K2_QUERY_GRPC_ADDRESS": ":0",
        "K2_GOVERNOR_ANYTHING": "1",
        "K2_TEST_SCALE": "2",
        "K2_REALDATA": "/data",
        "K2_FAULT_DIR": "/faults",
        "K2_CATALOG_URI": "sqlite:///catalog.db",
    }

    assert load(WriterLike, environ) == WriterLike()
    assert "K2_WRITER_TOPIC is not" in mistakes_of(environ | {"K2_WRITER_TOPIC": "x"})


@pytest.mark.parametrize("name", ["", "Writer 1", "../writer", "-x"])
def test_name_that_cannot_be_a_file_is_refused(name: str) -> None:
    """Doors and logs are named by it."""
    with pytest.raises(ValidationError):
        WriterLike(name=name)


@pytest.mark.parametrize("bootstrap", ["kafka", "kafka:", ":9092", "a:1,", "a:1 b:2"])
def test_bootstrap_that_is_no_address_is_refused(bootstrap: str) -> None:
    """Found at the start, not after a timeout."""
    assert "K2_KAFKA_BOOTSTRAP" in mistakes_of({"K2_KAFKA_BOOTSTRAP": bootstrap})


def test_configuration_is_frozen() -> None:
    """Read once; nobody changes it."""
    with pytest.raises(ValidationError, match="frozen"):
        WriterLike().name = "other"  # type: ignore[misc]


def test_table_shows_every_variable() -> None:
    """Variable, type, default and meaning, one variable a line."""
    table = describe(WriterLike)
    lines = {line.split()[0]: line for line in table.splitlines() if line.startswith("K2_")}

    assert table.splitlines()[0].split() == ["variable", "type", "default", "meaning"]
    assert lines["K2_WRITER_FLUSH_AFTER_BYTES"].split() == [
        *("K2_WRITER_FLUSH_AFTER_BYTES", "bytes", "64MiB", "most", "bytes")
    ]
    assert lines["K2_SERVICE_NAME"].split()[2] == "writer-1"
    assert "debug|info|warning|error" in lines["K2_LOG_LEVEL"]
    assert "text,..." in lines["K2_WRITER_TOPICS"]
    assert max(map(len, table.splitlines())) <= 140
    assert "required" in describe(Required)
