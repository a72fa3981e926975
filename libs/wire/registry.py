"""Schema ids in a local file, under Confluent's rules."""

from __future__ import annotations

import base64
import os
import sys
import tempfile
from pathlib import Path

import msgspec
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError

from libs.market.errors import CorruptError, NotFoundError
from libs.wire.added import added_fields, is_trade
from libs.wire.compatibility import IncompatibleSchemaError, reused, violations
from libs.wire.filelock import exclusive

__all__ = ["IncompatibleSchemaError", "SchemaRegistry", "UnknownSchemaError", "subject_of"]


class UnknownSchemaError(NotFoundError):
    """A schema id that nobody registered."""

    reason = "UNKNOWN_SCHEMA"

    def __init__(self, schema_id: int) -> None:
        super().__init__(f"schema id {schema_id} is not in the registry", schema_id=schema_id)


class _State(msgspec.Struct, frozen=True):
    """What the file holds: descriptors in base64 by id, and each subject's ids, oldest first."""

    schemas: dict[int, str] = {}
    subjects: dict[str, tuple[int, ...]] = {}


_Stamp = tuple[int, int, int]


class SchemaRegistry:
    """Registers schemas and hands them out, safe between processes.

    One schema has one id, whatever its subjects. The file is replaced whole, so that a reader
    never sees half of it; it is read again when it changed and an id is not known yet.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._state = _State()
        self._stamp: _Stamp | None = None

    def register(self, subject: str, schema: FileDescriptorProto) -> int:
        """Return the schema's id under `subject`, giving it one if it is new.

        Raises:
            IncompatibleSchemaError: it could not read what the subject's latest one wrote, or its
                trades could not be rows of the table.
            CorruptError: the file is not a registry.
        """
        encoded = base64.b64encode(schema.SerializeToString(deterministic=True)).decode()
        with exclusive(self._path.with_name(self._path.name + ".lock")):
            self._reload()
            known = next((i for i, text in self._state.schemas.items() if text == encoded), None)
            versions = self._state.subjects.get(subject, ())
            if known in versions and known is not None:
                return known
            self._check(subject, versions, schema)
            schema_id = known or max(self._state.schemas, default=0) + 1
            self._write(
                _State(
                    self._state.schemas | {schema_id: encoded},
                    self._state.subjects | {subject: (*versions, schema_id)},
                )
            )
            return schema_id

    def get(self, schema_id: int) -> FileDescriptorProto:
        """Return the schema of an id.

        Raises:
            UnknownSchemaError: nobody registered it.
            CorruptError: the file is not a registry.
        """
        if schema_id not in self._state.schemas:
            self._reload()
        encoded = self._state.schemas.get(schema_id)
        if encoded is None:
            raise UnknownSchemaError(schema_id)
        return self._decode(encoded)

    def before(self, schema_id: int) -> list[FileDescriptorProto]:
        """Return the schemas of all subjects that were registered before an id, oldest first.

        Raises:
            CorruptError: the file is not a registry.
        """
        earlier = sorted(known for known in self._state.schemas if known < schema_id)
        return [self._decode(self._state.schemas[known]) for known in earlier]

    def latest(self, subject: str) -> int | None:
        """Return the id of a subject's newest schema, None where it has none.

        Raises:
            CorruptError: the file is not a registry.
        """
        self._reload()
        return next(reversed(self._state.subjects.get(subject, ())), None)

    def _check(self, subject: str, versions: tuple[int, ...], schema: FileDescriptorProto) -> None:
        known = [self.get(version) for version in versions]
        problems = [*(violations(known[-1], schema) if known else []), *reused(known, schema)]
        if not problems and is_trade(schema):
            added_fields(self.before(sys.maxsize), schema)
        if problems:
            raise IncompatibleSchemaError(
                f"the new schema of {subject} cannot read the old one's data: "
                + "; ".join(problems),
                subject=subject,
            )

    def _decode(self, encoded: str) -> FileDescriptorProto:
        try:
            return FileDescriptorProto.FromString(base64.b64decode(encoded, validate=True))
        except (ValueError, DecodeError) as error:
            raise self._corrupt() from error

    def _reload(self) -> None:
        stamp = self._stat()
        if stamp is None:
            # Forget the stamp too: a file moved away and back has the one it had.
            self._state, self._stamp = _State(), None
            return
        if stamp == self._stamp:
            return
        try:
            self._state = msgspec.json.decode(self._path.read_bytes(), type=_State)
        except msgspec.DecodeError as error:
            raise self._corrupt() from error
        self._stamp = stamp

    def _stat(self) -> _Stamp | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _corrupt(self) -> CorruptError:
        return CorruptError(
            f"{self._path} is not a schema registry; restore it, or remove it and start the"
            " ingestor to register the schemas again",
            path=str(self._path),
        )

    def _write(self, state: _State) -> None:
        with tempfile.NamedTemporaryFile(dir=self._path.parent, delete=False) as file:
            file.write(msgspec.json.format(msgspec.json.encode(state), indent=1))
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(self._path)
        self._state, self._stamp = state, self._stat()


def subject_of(topic: str) -> str:
    """Name the subject of a topic's values, as Confluent's TopicNameStrategy does."""
    return f"{topic}-value"
