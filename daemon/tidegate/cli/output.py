"""The output of a run in pieces, holes told apart from what was written. Reads only; never follows a link."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

from tidegate.cli.client import PIECE_BYTES, Client
from tidegate.model.view import RunView

BLOCK_BYTES: Final = 4096  # holes are whole blocks
FOLDER_FLAGS: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Piece(Struct, frozen=True):
    """Bytes of the output, or a hole where the limit dropped some; `end` is the offset behind it."""

    data: bytes
    end: int
    dropped_bytes: int = 0


def opened(state_dir: Path, run: RunView) -> int | None:
    """A descriptor of the run's output file; None where there is none or this user may not read it."""
    folders: list[int] = []
    try:
        folders.append(os.open(state_dir, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        for name in ("output", run.job):
            folders.append(os.open(name, FOLDER_FLAGS, dir_fd=folders[-1]))
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(f"{run.run_id}.log", flags, dir_fd=folders[-1])
    except OSError:
        return None
    finally:
        for folder in folders:
            os.close(folder)


def file_pieces(descriptor: int | None, offset: int) -> Iterator[Piece] | None:
    """From the offset to the end that the file has now; None where there is no file."""
    return None if descriptor is None else _file_pieces(descriptor, offset)


def _file_pieces(descriptor: int, offset: int) -> Iterator[Piece]:
    try:
        end = os.fstat(descriptor).st_size
        while offset < end:
            begin = _data_from(descriptor, offset, end)
            if begin > offset:
                yield Piece(b"", begin, begin - offset)
                offset = begin
                continue
            hole = min(os.lseek(descriptor, offset, os.SEEK_HOLE), end)
            data = os.pread(descriptor, min(PIECE_BYTES, hole - offset), offset)
            if not data:
                return  # it became shorter
            offset += len(data)
            yield Piece(data, offset)
    finally:
        os.close(descriptor)


def _data_from(descriptor: int, offset: int, end: int) -> int:
    """Where the next data is, the end if only a hole follows."""
    try:
        return min(os.lseek(descriptor, offset, os.SEEK_DATA), end)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return end
        raise


def remote_pieces(client: Client, run: RunView, offset: int) -> Iterator[Piece]:
    """The same through the daemon. Where something was dropped, blocks of NULs are taken for holes."""
    while True:
        data = client.output(run.run_id, offset)
        if not data:
            return
        for piece in _split(data, offset) if run.output_incomplete else (Piece(data, offset + len(data)),):
            offset = piece.end
            yield piece


def _split(data: bytes, offset: int) -> Iterator[Piece]:
    """Runs of blocks that hold only NULs, and what is between them."""
    begin, in_hole = 0, False
    for at in range(0, len(data), BLOCK_BYTES):
        block = data[at : at + BLOCK_BYTES]
        empty = not block.strip(b"\0")
        if empty is in_hole:
            continue
        if at > begin:
            yield _piece(data[begin:at], offset + at, in_hole)
        begin, in_hole = at, empty
    yield _piece(data[begin:], offset + len(data), in_hole)


def _piece(data: bytes, end: int, hole: bool) -> Piece:
    return Piece(b"", end, len(data)) if hole else Piece(data, end)
