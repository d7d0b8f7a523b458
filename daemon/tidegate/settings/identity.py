"""Who would run the jobs, and whom they may run as. Asks the user database, and keeps each verdict; changes nothing."""

import grp
import os
import pwd
from typing import Final

from msgspec import Struct

from tidegate.model.job import RunAs
from tidegate.settings.problem import hint, quoted

ONLY_ROOT: Final = "only root can run a job as somebody else"
HINTS_MAX: Final = 3  # looking for a near name reads the whole user database


class Identity(Struct, frozen=True):
    """The user that judges a configuration, and would run it unless it only looks on."""

    uid: int
    gid: int
    groups: frozenset[int] = frozenset()
    looks_on: bool = False  # lists and shows what somebody else runs: what depends on who runs it is not judged


def of_process() -> Identity:
    """This process."""
    return Identity(os.geteuid(), os.getegid(), frozenset(os.getgroups()))


def onlooker() -> Identity:
    """This process, which will not run what it reads."""
    return Identity(os.geteuid(), os.getegid(), frozenset(os.getgroups()), looks_on=True)


class Users:
    """Verdicts on users and groups: a sentence, "" for a good one."""

    def __init__(self, who: Identity) -> None:
        self.who = who
        self._run_as: dict[RunAs, tuple[tuple[str, str], ...]] = {}
        self._hints_left = HINTS_MAX

    def wrong(self, run_as: RunAs) -> tuple[tuple[str, str], ...]:
        """Key and sentence of everything that is wrong with this."""
        found = self._run_as.get(run_as)
        if found is None:
            found = self._run_as[run_as] = tuple(self._judge(run_as))
        return found

    def wrong_group(self, name: str) -> str:
        """Whether a group exists."""
        return (
            "" if gid_of(name) is not None else self._missing("group", name, [each.gr_name for each in self._groups()])
        )

    def _judge(self, run_as: RunAs) -> list[tuple[str, str]]:
        uid = None if run_as.user is None else uid_of(run_as.user)
        found = []
        if run_as.user is not None and uid is None:
            found.append(("user", self._missing("user", run_as.user, [each.pw_name for each in self._users()])))
        named = [("group", run_as.group)] if run_as.group is not None else []
        named += [("groups", name) for name in run_as.groups or ()]
        missing = [(key, self.wrong_group(name)) for key, name in named]
        found += [(key, wrong) for key, wrong in missing if wrong]
        if found or self.who.uid == 0 or self.who.looks_on:
            return found
        if uid is not None and uid != self.who.uid:
            found.append(("user", ONLY_ROOT))
        if run_as.group is not None and gid_of(run_as.group) != self.who.gid:
            found.append(("group", ONLY_ROOT))
        if run_as.groups is not None and {gid_of(name) for name in run_as.groups} != self.who.groups:
            found.append(("groups", ONLY_ROOT))
        return found

    def _missing(self, kind: str, name: str, known: list[str]) -> str:
        return f"no {kind} named {quoted(name)} on this machine{hint(name, known)}"

    def _users(self) -> list[pwd.struct_passwd]:
        self._hints_left -= 1
        return pwd.getpwall() if self._hints_left >= 0 else []

    def _groups(self) -> list[grp.struct_group]:
        self._hints_left -= 1
        return grp.getgrall() if self._hints_left >= 0 else []


def uid_of(name: str) -> int | None:
    """The user's number; None where there is no such user."""
    try:
        return pwd.getpwnam(name).pw_uid
    except (KeyError, ValueError):  # ValueError: a NUL or a surrogate in the name
        return None


def gid_of(name: str) -> int | None:
    """The group's number; None where there is no such group."""
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        return None
