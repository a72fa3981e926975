"""Listing and deleting files where a table lies: a local folder or an object store."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyarrow import fs
from pyiceberg.io import FileIO
from pyiceberg.io.pyarrow import PyArrowFileIO

from libs.market.errors import ConfigError


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file as the store lists it."""

    location: str
    modified_us: int
    size_bytes: int


class Storage:
    """The store that a table's files are in.

    Raises:
        ConfigError: it is one that cannot be listed.
    """

    def __init__(self, io: FileIO) -> None:
        if not isinstance(io, PyArrowFileIO):
            raise ConfigError(f"{type(io).__name__} cannot list files: use PyArrow's")
        self._io = io

    def path_of(self, location: str) -> str:
        """Return the store's own name for a location; equal names are the same file."""
        return PyArrowFileIO.parse_location(location, self._io.properties)[2]

    def files_under(self, location: str) -> Iterator[StoredFile]:
        """Yield every file below a folder; none where there is no such folder.

        Raises:
            OSError: the store does not answer.
        """
        scheme, netloc, path = PyArrowFileIO.parse_location(location, self._io.properties)
        selector = fs.FileSelector(path, recursive=True, allow_not_found=True)
        for info in self._io.fs_by_scheme(scheme, netloc).get_file_info(selector):
            if info.type is fs.FileType.File:
                modified_us = (info.mtime_ns or 0) // 1_000
                yield StoredFile(f"{scheme}://{info.path}", modified_us, info.size or 0)

    def delete(self, location: str) -> bool:
        """Delete a file; False where it is gone already.

        Raises:
            OSError: it cannot be deleted.
        """
        try:
            self._io.delete(location)
        except FileNotFoundError:
            return False
        return True
