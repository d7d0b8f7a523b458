"""Reads a configuration in a process of its own, so that 10,000 jobs never hold the supervisor's loop:
`python -m tidegate.settings.child CONFIG` writes what it found to stdout. Starts nothing, prints nothing else."""

import gc
import sys
from pathlib import Path

import msgspec

from tidegate.model.plan import Plan
from tidegate.settings.problem import SettingsError
from tidegate.settings.wire import Loaded, Refused, pack, unpack


def encode(path: Path) -> bytes:
    """What load() says of `path`, as MessagePack."""
    from tidegate.settings.read import load  # who only decodes needs no parser

    try:
        return msgspec.msgpack.encode(pack(load(path)))
    except SettingsError as error:
        return msgspec.msgpack.encode(Refused(error.problems))


def decode(data: bytes) -> Plan:
    """The Plan that the child read. Raises SettingsError with what it found, ValueError for other data."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        answer = msgspec.msgpack.decode(data, type=Loaded | Refused)
        if isinstance(answer, Refused):
            raise SettingsError(answer.problems)
        return unpack(answer)
    finally:
        if collecting:
            gc.enable()


def main() -> None:
    """Status 0 for a good configuration and for a refused one: the answer tells which."""
    sys.stdout.buffer.write(encode(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
