"""When may one Protobuf schema follow another: Confluent's BACKWARD, readers are updated first.

Fields may be added, removed and renamed; a number keeps its type and its label, and a message
stays. Stricter than Confluent's where data would change its meaning in silence: integers may
become wider, never narrower; a name does not move to another number, nor a number to another
field once its own is removed; an enumeration's number keeps its name; nothing new is required.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)

from libs.market.errors import ConflictError

_Type = FieldDescriptorProto.Type
_LABELS = {
    FieldDescriptorProto.LABEL_REPEATED: "repeated ",
    FieldDescriptorProto.LABEL_REQUIRED: "required ",
}
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
    return [
        *_message_violations(old.message_type, new.message_type),
        *enum_violations(old, new),
    ]


def reused(earlier: Sequence[FileDescriptorProto], new: FileDescriptorProto) -> list[str]:
    """Say which numbers of removed fields `new` gives to others; `earlier` is oldest first.

    Under the version just before it a field may be renamed; one that was gone is another.
    """
    if not earlier:
        return []
    latest = _first_fields(earlier[-1])
    gone = {
        number: field.name
        for version in earlier[:-1]
        for number, field in _first_fields(version).items()
        if number not in latest
    }
    return [
        f"{new.message_type[0].name}.{field.name} = {number} takes the number of {gone[number]},"
        " which was removed"
        for number, field in _first_fields(new).items()
        if number in gone and gone[number] != field.name
    ]


def enum_violations(old: FileDescriptorProto, new: FileDescriptorProto) -> Iterator[str]:
    """Say which numbers of `old` enumerations have another name in `new`."""
    successors = {enum.name: _values(enum) for enum in new.enum_type}
    for enum in old.enum_type:
        for number, name in _values(enum).items():
            successor = successors.get(enum.name, {}).get(number, name)
            if successor != name:
                yield f"{enum.name} {number} was {name} and would be {successor}"


def reads(old: FieldDescriptorProto, new: FieldDescriptorProto) -> bool:
    """Say whether a reader of `new` understands every value of `old`."""
    same_type = (old.type, old.type_name) == (new.type, new.type_name)
    return old.label == new.label and (same_type or (old.type, new.type) in _WIDENINGS)


def spelled(field: FieldDescriptorProto) -> str:
    """Write a field's label and type as in a .proto."""
    kind = field.type_name.lstrip(".") or _Type.Name(field.type).removeprefix("TYPE_").lower()
    return _LABELS.get(field.label, "") + kind


def _first_fields(file: FileDescriptorProto) -> dict[int, FieldDescriptorProto]:
    fields = file.message_type[0].field if file.message_type else ()
    return {field.number: field for field in fields}


def _values(enum: EnumDescriptorProto) -> dict[int, str]:
    return {value.number: value.name for value in enum.value}


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
        if successor is not None and not reads(field, successor):
            yield (
                f"{old.name}.{field.name} = {field.number} changes its type or label:"
                f" it was {spelled(field)} and would be {spelled(successor)}"
            )
    yield from _arrivals(old, new)


def _arrivals(old: DescriptorProto, new: DescriptorProto) -> Iterator[str]:
    """Say what is wrong with fields that were not there before."""
    numbers = {field.name: field.number for field in old.field}
    known = frozenset(numbers.values())
    for field in new.field:
        name = f"{new.name}.{field.name} = {field.number}"
        if numbers.get(field.name, field.number) != field.number:
            yield f"{name} had number {numbers[field.name]}"
        if field.number not in known and field.label == FieldDescriptorProto.LABEL_REQUIRED:
            yield f"{name} is required, and older data does not have it"
