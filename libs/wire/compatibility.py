"""When may one Protobuf schema follow another: Confluent's BACKWARD, readers are updated first.

Fields may be added, removed and renamed; a number keeps its type and its label, and a message
stays. Stricter than Confluent's in one thing: integers may become wider, never narrower, because
a narrower one loses digits in silence.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

from libs.market.errors import ConflictError

_Type = FieldDescriptorProto.Type
_WIDENINGS = frozenset(
    {
        (_Type.TYPE_INT32, _Type.TYPE_INT64),
        (_Type.TYPE_UINT32, _Type.TYPE_UINT64),
        (_Type.TYPE_UINT32, _Type.TYPE_INT64),
        (_Type.TYPE_SINT32, _Type.TYPE_SINT64),
        (_Type.TYPE_STRING, _Type.TYPE_BYTES),
    }
)


class IncompatibleSchemaError(ConflictError):
    """A schema that could not read what was written under the one before it."""

    reason = "INCOMPATIBLE_SCHEMA"
    retriable = False


def violations(old: FileDescriptorProto, new: FileDescriptorProto) -> list[str]:
    """Say, a sentence each, what of `old` data `new` could not read."""
    names = [file.message_type[0].name if file.message_type else "" for file in (old, new)]
    if names[0] != names[1]:
        return [f"the first message was {names[0] or 'absent'} and would be {names[1] or 'absent'}"]
    return list(_message_violations(old.message_type, new.message_type))


def _message_violations(
    old: Iterable[DescriptorProto], new: Iterable[DescriptorProto]
) -> Iterator[str]:
    successors = {message.name: message for message in new}
    for message in old:
        successor = successors.get(message.name)
        if successor is None:
            yield f"message {message.name} is gone"
            continue
        yield from _field_violations(message, successor)
        yield from _message_violations(message.nested_type, successor.nested_type)


def _field_violations(old: DescriptorProto, new: DescriptorProto) -> Iterator[str]:
    successors = {field.number: field for field in new.field}
    for field in old.field:
        successor = successors.get(field.number)
        if successor is not None and not _reads(field, successor):
            yield f"{old.name}.{field.name} = {field.number} changes its type or label"


def _reads(old: FieldDescriptorProto, new: FieldDescriptorProto) -> bool:
    same_type = (old.type, old.type_name) == (new.type, new.type_name)
    return old.label == new.label and (same_type or (old.type, new.type) in _WIDENINGS)
