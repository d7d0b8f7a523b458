"""Which crontabs are meant: a file, a user's own, or all of the system. Reads them, and changes nothing."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from msgspec import Struct

from tidegate.model.limits import CRONTAB_LINES_MAX
from tidegate.model.text import escape
from tidegate.settings.anacrontab import read_anacrontab
from tidegate.settings.cron_rules import Dialect
from tidegate.settings.crontab import Crontab, Entry, Layout, read_crontab
from tidegate.settings.identity import uid_of
from tidegate.settings.problem import quoted
from tidegate.settings.source import Unusable, decoded, read_bytes

ETC: Final = Path("/etc")
SPOOLS: Final = (Path("/var/spool/cron/crontabs"), Path("/var/spool/cron"))  # Debian's; cronie's
CRONIE: Final = Path("/usr/sbin/crond")
RUN_PARTS_NAME: Final = re.compile(r"[A-Za-z0-9_-]+")  # Debian's cron reads no other name in cron.d
ANSWER_S_MAX: Final = 30.0  # for crontab -l, which may ask a directory service


class Source(Struct, frozen=True):
    """One crontab: where it is from, what the file of its jobs is called, and its text."""

    origin: str
    stem: str
    text: str
    layout: Layout | None  # None: to be found out
    user: str | None = None


class Unread(Struct, frozen=True):
    """A crontab that cannot be used, or is not meant to be."""

    origin: str
    message: str
    line: int = 0
    is_lost: bool = True  # False: cron does not read it either


def of_file(path: Path, layout: Layout | None) -> Source | Unread:
    """A file, or standard input for "-"."""
    if str(path) == "-":
        return _source("-", "crontab", sys.stdin.buffer.read(), layout)
    if layout is None:
        absolute = path.absolute()
        if absolute.name == "anacrontab":
            layout = Layout.ANACRON
        elif absolute.parent.name == "cron.d" or absolute == ETC / "crontab":
            layout = Layout.SYSTEM
    try:
        data = read_bytes(path)
    except Unusable as error:
        return Unread(str(path), error.message)
    stem = "cron.d-" + path.name if path.absolute().parent.name == "cron.d" else path.name
    return _source(str(path), stem, data, layout)


def of_user(user: str) -> Source | Unread:
    """A user's own crontab: the file, or what crontab(1) says where only that may read it."""
    if uid_of(user) is None:
        return Unread(user, f"no user named {quoted(user)} on this machine")
    refused = ""
    for spool in SPOOLS:
        try:
            data = read_bytes(spool / user)
        except Unusable as error:
            refused = refused or ("" if "No such file" in error.message else error.message)
            continue
        return _source(str(spool / user), f"crontab-{user}", data, Layout.USER, user)
    own = uid_of(user) == os.getuid()
    command = ["crontab", "-l"] if own else ["crontab", "-l", "-u", user]
    try:
        done = subprocess.run(command, capture_output=True, timeout=ANSWER_S_MAX, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        said = refused or "there is none, and crontab(1) cannot be asked"
        return Unread(f"crontab of {user}", f"{said}: {error}")
    if done.returncode:
        return Unread(f"crontab of {user}", escape(done.stderr.decode(errors="replace").strip()) or "there is none")
    return _source(f"crontab of {user}", f"crontab-{user}", done.stdout, Layout.USER, user)


def of_system(dialect: Dialect) -> list[Source | Unread]:
    """/etc/crontab, /etc/cron.d and /etc/anacrontab; users' own are asked for one by one."""
    found: list[Source | Unread] = []
    main = ETC / "crontab"
    if os.path.lexists(main):
        found.append(of_file(main, Layout.SYSTEM))
    folder = ETC / "cron.d"
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith(".") or path.is_dir():
            continue
        if dialect is Dialect.DEBIAN and not RUN_PARTS_NAME.fullmatch(path.name):
            said = "not imported: Debian's cron reads no file with such a name either"
            found.append(Unread(str(path), said, is_lost=False))
            continue
        found.append(of_file(path, Layout.SYSTEM))
    if os.path.lexists(ETC / "anacrontab"):
        found.append(of_file(ETC / "anacrontab", Layout.ANACRON))
    return found


def usual_dialect() -> Dialect:
    """Whose cron this machine has."""
    return Dialect.CRONIE if CRONIE.exists() else Dialect.DEBIAN


def read(source: Source, dialect: Dialect) -> tuple[Crontab, str]:
    """The lines, and a remark where the layout was found out rather than known."""
    match source.layout:
        case Layout.ANACRON:
            return read_anacrontab(source.text), ""
        case None:
            tab = read_crontab(source.text, Layout.USER, dialect)
            if not _names_users(tab):
                return tab, ""
            said = "its commands begin with users, so it is read as a system crontab; --layout user says otherwise"
            return read_crontab(source.text, Layout.SYSTEM, dialect), said
        case layout:
            return read_crontab(source.text, layout, dialect), ""


def _names_users(tab: Crontab) -> bool:
    """Whether most commands begin with the name of a user that is no program's name too, and have more to them."""
    commands = [item.command.split(None, 1) for item in tab.items if isinstance(item, Entry)]
    named = [words for words in commands if len(words) == 2 and _is_user(words[0]) and words[1][0] != "-"]
    return 2 * len(named) > len(commands)


def _is_user(word: str) -> bool:
    return uid_of(word) is not None and shutil.which(word) is None


def _source(origin: str, stem: str, data: bytes, layout: Layout | None, user: str | None = None) -> Source | Unread:
    if data.count(b"\n") > CRONTAB_LINES_MAX:
        return Unread(origin, f"has more than {CRONTAB_LINES_MAX} lines; split it into several files")
    try:
        return Source(origin, stem, decoded(data), layout, user)
    except Unusable as error:
        return Unread(origin, error.message, error.line)
