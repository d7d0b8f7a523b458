"""The daemon's own tables, from what is written to what is meant, every default filled in. Findings go to a Desk."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import UNSET
from msgspec.structs import replace

from tidegate.model.plan import (
    ControlSettings,
    DaemonSettings,
    HistorySettings,
    Hook,
    HttpSettings,
    Mail,
    MetricsSettings,
)
from tidegate.settings import rules
from tidegate.settings.amounts import size_bytes
from tidegate.settings.desk import LEAST_S, Desk, duration
from tidegate.settings.identity import Users
from tidegate.settings.problem import Keys
from tidegate.settings.raw import RawMainFile
from tidegate.settings.raw_daemon import RawHook, RawMail
from tidegate.settings.secret import check_secret

KEEP_S_MIN = 60.0  # a run that is forgotten while somebody still looks at it helps nobody
KEEP_BYTES_MIN = 1024**2  # the empty account takes a tenth of it


def daemon(raw: RawMainFile, zone: str, desk: Desk) -> DaemonSettings:
    """[daemon] but for its timezone, which is resolved already."""
    written = raw.daemon
    fields: dict[str, Any] = {"timezone": zone}
    for key in ("log_format", "log_level", "on_stop"):
        if getattr(written, key) is not UNSET:
            fields[key] = getattr(written, key)
    if written.drain_timeout is not UNSET:
        fields["drain_timeout_s"] = duration(("daemon", "drain_timeout"), written.drain_timeout, 0.0, 300.0, desk)
    return DaemonSettings(**fields)


def http(raw: RawMainFile, desk: Desk) -> HttpSettings:
    """[http]"""
    default = HttpSettings()
    hosts = () if raw.http.allowed_hosts is UNSET else raw.http.allowed_hosts
    token_file = None
    if raw.http.token_file is not UNSET and raw.http.token_file:
        token_file = secret_file(raw.http.token_file, ("http", "token_file"), desk)
    host, port = default.host, default.port
    if raw.http.listen is not UNSET:
        fallback: tuple[str | None, int | None] = (default.host, default.port)
        host, written_port = desk.take(("http", "listen"), rules.listen, raw.http.listen, fallback)
        port = default.port if written_port is None else written_port
    return HttpSettings(host=host, port=port, token_file=token_file, allowed_hosts=hosts)


def metrics(raw: RawMainFile) -> MetricsSettings:
    """[metrics]"""
    written = raw.metrics.per_job_histograms
    return MetricsSettings() if written is UNSET else MetricsSettings(per_job_histograms=written)


def control(raw: RawMainFile, users: Users, desk: Desk) -> ControlSettings:
    """[control]"""
    operators = "" if raw.control.operators is UNSET else raw.control.operators
    wrong = users.wrong_group(operators) if operators else ""
    if wrong:
        desk.report(("control", "operators"), wrong)
    return ControlSettings(operators=operators)


def history(raw: RawMainFile, desk: Desk) -> HistorySettings:
    """[history]"""
    default, written = HistorySettings(), raw.history
    fields: dict[str, Any] = {}
    for key in ("keep_runs", "durability", "on_corruption"):
        if getattr(written, key) is not UNSET:
            fields[key] = getattr(written, key)
    if written.keep is not UNSET:
        fields["keep_s"] = duration(("history", "keep"), written.keep, KEEP_S_MIN, default.keep_s, desk)
    if written.keep_bytes is not UNSET:
        keys: Keys = ("history", "keep_bytes")
        fields["keep_bytes"] = at_least(keys, written.keep_bytes, "1MiB", default.keep_bytes, desk)
    if written.reserve is not UNSET:
        fields["reserve_bytes"] = desk.take(("history", "reserve"), size_bytes, written.reserve, default.reserve_bytes)
    return replace(default, **fields)


def resources(raw: RawMainFile, desk: Desk) -> dict[str, int]:
    """[resources]: units by name."""
    for name in raw.resources:
        desk.take(("resources", name), rules.resource_name, name, None)
    return dict(raw.resources)


def hooks(raw: RawMainFile, desk: Desk) -> dict[str, Hook]:
    """[hooks]: the good ones by name."""
    found = {}
    for name, written in raw.hooks.items():
        keys: Keys = ("hooks", name)
        desk.take(keys, rules.hook_name, name, None)
        found[name] = hook(name, written, keys, desk)
    return found


def hook(name: str, raw: RawHook, keys: Keys, desk: Desk) -> Hook:
    """One hook."""
    default = Hook(name=name)
    fields: dict[str, Any] = {"name": name}
    ways = [key for key in ("command", "webhook", "mail") if getattr(raw, key) is not UNSET]
    if not ways and not any((*keys, key) in desk.bad for key in ("command", "webhook", "mail")):
        desk.report(keys, "needs command, webhook or mail")
    for key in ways[1:]:
        desk.report((*keys, key), f"only one of command, webhook and mail may be written; {ways[0]} is there already")
    if raw.command is not UNSET:
        for index, argument in enumerate(raw.command):
            desk.take((*keys, "command", index), rules.plain, argument, None)
        desk.take((*keys, "command"), rules.argv, raw.command, None)
        fields["command"] = (rules.beside(desk.folder, raw.command[0]), *raw.command[1:])
    if raw.webhook is not UNSET:
        desk.take((*keys, "webhook"), rules.url, raw.webhook, None)
        fields["webhook"] = raw.webhook
    if raw.mail is not UNSET:
        fields["mail"] = mail(raw.mail, (*keys, "mail"), desk)
    if raw.headers is not UNSET:
        if "webhook" not in ways:
            desk.report((*keys, "headers"), "only a webhook has headers")
        fields["headers"] = headers(raw.headers, (*keys, "headers"), desk)
    if raw.timeout is not UNSET:
        fields["timeout_s"] = duration((*keys, "timeout"), raw.timeout, LEAST_S, default.timeout_s, desk)
    if raw.retries is not UNSET:
        if "command" in ways:
            desk.report((*keys, "retries"), "a command is not tried again: it may have done half of its work")
        fields["retries"] = raw.retries
    return Hook(**fields)


def headers(written: Mapping[str, str], keys: Keys, desk: Desk) -> dict[str, str]:
    """Headers that cannot end the header."""
    for name, value in written.items():
        desk.take((*keys, name), rules.header_name, name, None)
        desk.take((*keys, name), rules.header_value, value, None)
    return dict(written)


def mail(raw: RawMail, keys: Keys, desk: Desk) -> Mail:
    """Where a mail goes, and through which server."""
    to = () if raw.to is UNSET else raw.to
    fields: dict[str, Any] = {"to": to}
    if not to and keys not in desk.bad:
        desk.report(keys, "needs to: who gets it")
    for index, address in enumerate(to):
        desk.take((*keys, "to", index), rules.address, address, None)
    if raw.smtp is not UNSET:
        desk.take((*keys, "smtp"), rules.server, raw.smtp, None)
        fields["smtp"] = raw.smtp
    if raw.sender is not UNSET:
        desk.take((*keys, "from"), rules.address, raw.sender, None)
        fields["sender"] = raw.sender
    if raw.starttls is not UNSET:
        fields["starttls"] = raw.starttls
    if raw.user is not UNSET:
        desk.take((*keys, "user"), rules.header_value, raw.user, None)
        fields["user"] = raw.user
        if raw.password_file is UNSET:
            desk.report((*keys, "user"), "needs password_file")
    if raw.password_file is not UNSET:
        fields["password_file"] = secret_file(raw.password_file, (*keys, "password_file"), desk)
        if raw.user is UNSET:
            desk.report((*keys, "password_file"), "needs user")
        if not fields.get("starttls") and not rules.is_local(fields.get("smtp", "localhost:25")):
            desk.warn((*keys, "password_file"), "the password crosses the network in clear text: write starttls = true")
    return Mail(**fields)


def secret_file(written: str, keys: Keys, desk: Desk) -> str:
    """The absolute path of a file with a secret, which exists and is closed to others."""
    desk.take(keys, rules.env_file, written, None)
    path = absolute(desk.folder, written)
    desk.take(keys, check_secret, path, None)
    return path


def absolute(folder: Path, written: str) -> str:
    """A path beneath the file's folder, or where it says absolutely."""
    return str(folder / written)


def at_least(keys: Keys, written: str, least: str, default: int, desk: Desk) -> int:
    """A size that is not below `least`; `default` where it is refused."""
    size = desk.take(keys, size_bytes, written, default)
    if size < size_bytes(least):
        desk.report(keys, f'must be at least "{least}", got "{written}"')
        return default
    return size
