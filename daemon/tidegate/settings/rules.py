"""Rules for single values that a type cannot state: names, argv, environment, addresses. Pure; each raises
ValueError with the sentence for a person, and the caller knows where the value stands."""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tidegate.model.limits import ARG_BYTES_MAX, ARGV_BYTES_MAX, NAME_CHARS_MAX
from tidegate.model.redact import mask as masked
from tidegate.settings.problem import quoted

JOB_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ZONE_NAME = re.compile(r"[A-Za-z0-9_+/-]{1,64}")
URL = re.compile(r"https?://[^\s\x00-\x20\x7f#\"<>\\^`{|}]{1,2000}")
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
ADDRESS = re.compile(r"[^\s<>,;:\"()\[\]\\@\x00-\x20\x7f]{1,64}(?:@[A-Za-z0-9\[\]:._-]{1,255})?")
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}")
HEADER_CHARS_MAX = 4096
LISTEN = re.compile(r"(?:\[([0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|([^\[\]:/\s\x00]{1,253})):([0-9]{1,5})")


def job_name(name: str, owner: str = "a job") -> None:
    """Names end up in file names, metric labels and SYSLOG_IDENTIFIER."""
    if len(name) > NAME_CHARS_MAX:
        raise ValueError(f"{owner}'s name must have at most {NAME_CHARS_MAX} characters, this one has {len(name)}")
    if not JOB_NAME.fullmatch(name):
        raise ValueError(
            f"{owner}'s name must be made of letters A-Z a-z, digits, _ . and -, and not begin with . or -"
        )


def resource_name(name: str) -> None:
    """As a job's."""
    job_name(name, "a resource")


def calendar_name(name: str) -> None:
    """As a job's."""
    job_name(name, "a calendar")


def hook_name(name: str) -> None:
    """As a job's."""
    job_name(name, "a hook")


def plain(value: str) -> None:
    """What the kernel takes as one argument, path or environment entry."""
    if "\0" in value:
        raise ValueError("must not contain a NUL character")
    if len(value) * 4 > ARG_BYTES_MAX and len(value.encode()) >= ARG_BYTES_MAX:
        raise ValueError(f"must be shorter than {ARG_BYTES_MAX // 1024} KiB: the kernel takes no longer argument")


def argv(command: Sequence[str]) -> None:
    """The program and the sum of all; single arguments are judged by plain()."""
    if not command[0]:
        raise ValueError("the program's name must not be empty")
    if sum(map(len, command)) * 4 > ARGV_BYTES_MAX and sum(len(arg.encode()) for arg in command) > ARGV_BYTES_MAX:
        raise ValueError(f"all arguments together must be at most {ARGV_BYTES_MAX // 1024} KiB")


def env_name(name: str) -> None:
    """POSIX names; TIDEGATE_* is what the daemon tells its runs."""
    if not ENV_NAME.fullmatch(name):
        raise ValueError("a variable's name must be made of letters, digits and _, and not begin with a digit")
    if name.startswith("TIDEGATE_"):
        raise ValueError("names that begin with TIDEGATE_ are set by tidegate")


def zone_name(name: str) -> None:
    """What may be a zone's name at all. zoneinfo takes a dot for a Python package and imports it, without end."""
    if not ZONE_NAME.fullmatch(name):
        raise ValueError(f"must be an IANA name such as Europe/Berlin or UTC, got {quoted(name)}")


def listen(address: str) -> tuple[str | None, int | None]:
    """Host and port of "127.0.0.1:9810", "[::1]:9810" or "localhost:0" (any free port); ("", off) is (None, None)."""
    if not address:
        return None, None
    found = LISTEN.fullmatch(address)
    if not found:
        raise ValueError(f'must be address:port such as "127.0.0.1:9810" or "[::1]:9810", or "", got {quoted(address)}')
    port = int(found[3])
    if port > 65535:
        raise ValueError(f"the port must be 0-65535, got {port}")
    return found[1] or found[2], port


def cwd(path: str) -> None:
    """A folder; one beneath or beside the file is written with ./ or ../, so that it is seen to be meant."""
    if path != "~" and not path.startswith(("/", "~/", "./", "../")):
        raise ValueError(f'must be absolute or begin with "~/", "./" or "../", got {quoted(path)}')


def beside(folder: Path, path: str) -> str:
    """A path that begins with ./ or ../ is beneath or beside the file's folder; any other stays as it is.

    `..` is taken from the folder as written, whatever symbolic links are on the way.
    """
    return os.path.normpath(folder / path) if path.startswith(("./", "../")) else path


def file_beside(folder: Path, path: str) -> str:
    """A file beneath the folder, or where it says absolutely; a leading "-", for one that may be missing, stays."""
    optional = "-" if path.startswith("-") else ""
    return optional + str(folder / path.removeprefix("-"))


def env_file(path: str) -> None:
    """A file; relative ones are beneath the job file's folder."""
    if not path or path.startswith("~"):
        raise ValueError(f"must be a path, absolute or relative to this file's folder, got {quoted(path)}")


def url(text: str) -> None:
    """An http or https URL with a host, without a fragment."""
    if not URL.fullmatch(text):
        raise ValueError(f'must be a URL such as "https://example.org/x", got {quoted(masked(text))}')
    try:
        parts = urlsplit(text)
        good = bool(parts.hostname) and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ValueError(f"must be a URL with a host and a port that can be, got {quoted(masked(text))}")


def address(text: str) -> None:
    """A mail address, or the name of a user of this machine."""
    if not ADDRESS.fullmatch(text):
        raise ValueError(f'must be a mail address such as "ops@example.org", got {quoted(text)}')


def server(text: str) -> None:
    """host:port."""
    found = LISTEN.fullmatch(text)
    if not found or not 0 < int(found[3]) <= 65535:
        raise ValueError(f'must be host:port such as "localhost:25" or "mail.example.org:587", got {quoted(text)}')


def is_local(text: str) -> bool:
    """Whether host:port is this machine."""
    return text.rpartition(":")[0] in ("localhost", "127.0.0.1", "[::1]")


def header_name(name: str) -> None:
    """A token of HTTP; what the connection itself needs stays with it."""
    if not HEADER_NAME.fullmatch(name):
        raise ValueError("a header's name must be made of letters, digits and !#$%&'*+-.^_`|~")
    if name.lower() in ("host", "content-length", "transfer-encoding", "connection"):
        raise ValueError("is set by tidegate")


def header_value(text: str) -> None:
    """One line of printable text."""
    if not text.isprintable() or len(text) > HEADER_CHARS_MAX:
        raise ValueError(f"must be one line of at most {HEADER_CHARS_MAX} printable characters")
