"""Generate the Protobuf and gRPC stubs that stand beside the .proto files: `make protos`."""

from __future__ import annotations

import os
import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).parents[1] / "protos"


def generate(into: Path) -> None:
    """Write the stubs of every .proto file below `into`.

    Raises:
        RuntimeError: protoc refused a file; what it printed says which.
    """
    sources = sorted(str(path.relative_to(ROOT)) for path in ROOT.rglob("*.proto"))
    outputs = ("python_out", "grpc_python_out", "mypy_out", "mypy_grpc_out")
    well_known_types = files("grpc_tools") / "_proto"
    plugins = Path(sys.executable).parent
    os.environ["PATH"] = f"{plugins}{os.pathsep}{os.environ['PATH']}"
    includes = (f"-I{ROOT}", f"-I{well_known_types}")
    code = protoc.main(["protoc", *includes, *(f"--{o}={into}" for o in outputs), *sources])
    if code != 0:
        raise RuntimeError(f"protoc ended with {code}")


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
