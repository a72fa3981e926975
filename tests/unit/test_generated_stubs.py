"""The committed Protobuf and gRPC stubs are those of the .proto files."""

from __future__ import annotations

from pathlib import Path

from tools.generate_protos import ROOT, generate

STUBS = ("*_pb2.py", "*_pb2.pyi", "*_pb2_grpc.py", "*_pb2_grpc.pyi")


def stubs_in(folder: Path) -> dict[str, bytes]:
    paths = {path for pattern in STUBS for path in folder.rglob(pattern)}
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_stubs_are_up_to_date(tmp_path: Path) -> None:
    """Fails when a .proto file changed and `make protos` was not run, or one was removed."""
    generate(tmp_path)

    fresh, committed = stubs_in(tmp_path), stubs_in(ROOT)

    assert fresh, "protoc made no stubs"
    assert committed.keys() == fresh.keys()
    stale = sorted(name for name in fresh if fresh[name] != committed[name])
    assert not stale, f"run `make protos`; stale: {stale}"
