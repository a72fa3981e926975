"""Configuration from K2_* variables: read once, every mistake named at once."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
)
from pydantic.fields import FieldInfo

from libs.market.errors import ConfigError, InvalidError
from libs.runtime import usage
from libs.telemetry import logs
from libs.telemetry.ports import LOOPBACK, split_address
from libs.telemetry.redaction import without_password

C = TypeVar("C", bound="ServiceConfig")

# Variables of other processes may stand in the same environment.
SERVICE_PREFIXES = tuple(
    f"K2_{name}_"
    for name in ("INGESTOR", "WRITER", "QUERY", "GOVERNOR", "SIMULATOR", "CLI", "TEST", "BENCH")
)
SHARED_VARIABLES = frozenset(
    {
        "K2_CATALOG_URI",
        "K2_FAULT_DIR",
        "K2_HOME",
        "K2_JAVA",
        "K2_PRIORITY_POLICY",
        "K2_REALDATA",
        "K2_SCHEMA_REGISTRY",
        "K2_TOOLS_DIR",
        "K2_WAREHOUSE",
    }
)


def _split_at_commas(value: object) -> object:
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _checked_address(address: str) -> str:
    try:
        host, port = split_address(address)
    except InvalidError as error:
        raise ValueError(error.message) from error
    return f"{host}:{port}"


def _checked_addresses(addresses: str) -> str:
    return ",".join(_checked_address(address.strip()) for address in addresses.split(","))


CommaList = Annotated[tuple[str, ...], BeforeValidator(_split_at_commas)]
Address = Annotated[str, AfterValidator(_checked_address)]
Addresses = Annotated[str, AfterValidator(_checked_addresses)]
Bytes = ByteSize


def grpc_field(service: str, port: int) -> str:
    """Declare where a service listens for gRPC: K2_<SERVICE>_GRPC_ADDRESS, on the loopback."""
    return _listening(f"K2_{service}_GRPC_ADDRESS", port, "gRPC")


def metrics_field(service: str, port: int) -> str:
    """Declare where a service shows its metrics: K2_<SERVICE>_METRICS_ADDRESS."""
    return _listening(f"K2_{service}_METRICS_ADDRESS", port, "Prometheus page")


def _listening(variable: str, port: int, what: str) -> str:
    field: str = Field(
        f"{LOOPBACK}:{port}",
        validation_alias=variable,
        description=f"{what}, host:port; port 0 takes a free one",
    )
    return field


class ServiceConfig(BaseModel):
    """What every service reads; a service's own fields go in a subclass.

    Each field has a description and says its variable: Field(validation_alias="K2_...").
    """

    model_config = ConfigDict(
        frozen=True, populate_by_name=True, extra="forbid", validate_default=True
    )

    name: str = Field(
        "k2",
        validation_alias="K2_SERVICE_NAME",
        description="name of this process, one of its kind (writer-1)",
    )
    run_dir: Path | None = Field(
        None,
        validation_alias="K2_RUN_DIR",
        description="folder where this process says where it listens",
    )
    kafka_bootstrap: str = Field(
        "127.0.0.1:9092",
        validation_alias="K2_KAFKA_BOOTSTRAP",
        pattern=r"^[^\s:,]+:\d+(,[^\s:,]+:\d+)*$",
        description="Kafka, host:port, more than one with commas",
    )
    governor_address: Addresses | None = Field(
        None,
        validation_alias="K2_GOVERNOR_ADDRESS",
        description="gRPC address of each governor, more than one with commas; without it the"
        " process watches itself",
    )
    memory_limit_bytes: Bytes | None = Field(
        None,
        validation_alias="K2_MEMORY_LIMIT_BYTES",
        description="memory this process may take (512MiB); without it the cgroup's limit",
    )
    log_level: logs.Level = Field(
        "info", validation_alias="K2_LOG_LEVEL", description="least level that is logged"
    )
    log_format: logs.Format | None = Field(
        None,
        validation_alias="K2_LOG_FORMAT",
        description="json or console; without it console on a terminal, else json",
    )

    @field_validator("name")
    @classmethod
    def _can_name_a_file(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", name):
            raise ValueError("must be lower-case letters, digits, - and _, at most 63")
        return name


def load(config_class: type[C], environ: Mapping[str, str] = os.environ) -> C:
    """Read the configuration from variables; an empty variable counts as absent.

    Raises:
        ConfigError: names each wrong value and each unknown K2_* variable.
    """
    given = {k: v for k, v in environ.items() if k.startswith("K2_") and v != ""}
    known = variables(config_class)
    mistakes = [_unknown(name, known) for name in given if not _is_known(name, known)]
    config: C | None = None
    try:
        config = config_class.model_validate({k: v for k, v in given.items() if k in known})
    except ValidationError as error:
        mistakes += _mistakes_of(error, given)
    if config is None or mistakes:
        raise _config_error(mistakes)
    return config


def variables(config_class: type[ServiceConfig]) -> dict[str, FieldInfo]:
    """Each field by the name of its variable."""
    return {
        str(field.validation_alias or name): field
        for name, field in config_class.model_fields.items()
    }


def describe(config_class: type[ServiceConfig]) -> str:
    """Show every variable as a table: its name, type, default and meaning."""
    return usage.table(variables(config_class))


def _is_known(name: str, known: Mapping[str, FieldInfo]) -> bool:
    own = known.keys() - variables(ServiceConfig).keys()
    foreign = [p for p in SERVICE_PREFIXES if not any(v.startswith(p) for v in own)]
    return name in known or name in SHARED_VARIABLES or name.startswith(tuple(foreign))


def _unknown(name: str, known: Mapping[str, FieldInfo]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.75)
    return f"{name} is not a variable of this service" + (
        f"; did you mean {near[0]}?" if near else ""
    )


def _mistakes_of(error: ValidationError, given: Mapping[str, str]) -> Iterator[str]:
    for mistake in error.errors():
        variable = str(mistake["loc"][0]) if mistake["loc"] else ""
        text = mistake["msg"].removeprefix("Value error, ")
        value = without_password(repr(given.get(variable, "")))
        shown = f"{variable}={value}" if variable in given else variable
        yield f"{shown}: {text}" if shown else text


def _config_error(mistakes: list[str]) -> ConfigError:
    count = "a mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
    listed = "".join(f"\n  {mistake}" for mistake in mistakes)
    return ConfigError(f"the configuration has {count}:{listed}", mistakes=tuple(mistakes))
