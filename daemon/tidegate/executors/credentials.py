"""Whose credentials a run gets: asks the user database, at each start, as a user may be deleted or change groups at any
time. It changes nobody's credentials: the keeper's child does.
"""

import grp
import os
import pwd

from msgspec import Struct

from tidegate.model.job import RunAs


class StartFailure(Struct, frozen=True):
    """Nothing can be started; the reason is a sentence for a person."""

    reason: str


class Identity(Struct, frozen=True):
    """Who runs the jobs: an entry of the user database."""

    name: str
    home: str
    lang: str = "C.UTF-8"


class Credentials(Struct, frozen=True):
    """An identity with its numbers; `groups` are the supplementary ones, as initgroups(3) would set them."""

    identity: Identity
    uid: int
    gid: int
    groups: tuple[int, ...]


def own_identity(uid: int, lang: str | None = None) -> Identity | StartFailure:
    """Look the user up once. A user that is not there runs nothing: never another one instead."""
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return StartFailure(f"user {uid} is not in the user database; create it, or run tidegate as one that exists")
    return Identity(entry.pw_name, entry.pw_dir, lang or "C.UTF-8")


def look_up(run_as: RunAs, lang: str) -> Credentials | StartFailure:
    """The numbers behind the names. A database behind a network may let this wait, as it lets every program wait."""
    try:
        entry = pwd.getpwuid(os.geteuid()) if run_as.user is None else pwd.getpwnam(run_as.user)
    except (KeyError, ValueError):
        name = repr(run_as.user) if run_as.user is not None else str(os.geteuid())
        return StartFailure(f"user {name} is not in the user database; create it, or correct user")
    gid = entry.pw_gid if run_as.group is None else _gid(run_as.group)
    if isinstance(gid, StartFailure):
        return gid
    if run_as.groups is None:
        groups = set(os.getgrouplist(entry.pw_name, gid))
    else:
        groups = {gid}
        for name in run_as.groups:
            found = _gid(name)
            if isinstance(found, StartFailure):
                return found
            groups.add(found)
    return Credentials(Identity(entry.pw_name, entry.pw_dir, lang), entry.pw_uid, gid, tuple(sorted(groups)))


def is_own(who: Credentials) -> bool:
    """Whether this process has just these already."""
    own = set(os.getgroups()) | {os.getegid()}
    return who.uid == os.geteuid() and who.gid == os.getegid() and set(who.groups) | {who.gid} == own


def _gid(name: str) -> int | StartFailure:
    try:
        return grp.getgrnam(name).gr_gid
    except (KeyError, ValueError):
        return StartFailure(f"group {name!r} is not in the group database; create it, or correct group or groups")
