"""Threat 15: who else may change what is read, and so what runs. Judges the open file, not its name."""

import grp
import os
import pwd
import stat
from pathlib import Path
from typing import Final

from tidegate.settings.identity import Identity

ENFORCED_BENEATH: Final = "/etc/"
OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH


class Ownership:
    """Verdicts on files and folders for one reader: a sentence, "" where nobody else can change it."""

    def __init__(self, who: Identity) -> None:
        self.who = who
        self._folders: dict[str, str] = {}

    def wrong(self, path: Path, real: str, status: os.stat_result) -> str:
        """The verdict on an open file: itself, and every folder above where it is and where it was named."""
        if self.who.looks_on:
            return ""
        return self._judge(status, folder=False) or self._above(real) or self._above(str(path.absolute()))

    def enforced(self, real: str, privileged: bool) -> bool:
        """Whether a verdict is an error: root would run it, from the system's configuration or as anybody."""
        return self.who.uid == 0 and (privileged or real.startswith(ENFORCED_BENEATH))

    def _above(self, path: str) -> str:
        parent = str(Path(path).parent)
        if parent == path:
            return ""
        verdict = self._folders.get(parent)
        if verdict is None:
            try:
                wrong = self._judge(Path(parent).stat(), folder=True)
            except OSError:
                wrong = "cannot be looked at"
            verdict = self._folders[parent] = f"the folder {parent} {wrong}" if wrong else self._above(parent)
        return verdict

    def _judge(self, status: os.stat_result, folder: bool) -> str:
        if status.st_uid not in (0, self.who.uid):
            return f"belongs to {user(status.st_uid)}, who could have anything run: chown {user(self.who.uid)}"
        written_by_others = status.st_mode & OTHERS_WRITE
        if folder and status.st_mode & stat.S_ISVTX and status.st_uid == 0:
            return ""  # as /tmp: nobody can exchange what another one has put there
        if written_by_others == stat.S_IWGRP and self.who.uid != 0 and private(status):
            return ""  # distributions whose umask is 002 give everybody a group of their own
        if written_by_others:
            mode = stat.S_IMODE(status.st_mode)
            return f"may be written to by others (mode {mode:04o}), who could have anything run: chmod go-w"
        return ""


def user(uid: int) -> str:
    """The name, or the number where it has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def private(status: os.stat_result) -> bool:
    """Whether the group is the owner's own: of the same name and without another member."""
    try:
        owner, group = pwd.getpwuid(status.st_uid), grp.getgrgid(status.st_gid)
    except KeyError:
        return False
    return group.gr_name == owner.pw_name and set(group.gr_mem) <= {owner.pw_name}
