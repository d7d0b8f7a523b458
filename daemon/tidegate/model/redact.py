"""What is shown of a definition without its secrets. Pure; the definition itself stays as it is.

A name tells of a secret (docs/reference/configuration.md, "What is never shown") where it holds `pass`, `secret`,
`token`, `credential`, `private` or `apikey`, or has one of WORDS between its dividers; not where it ends in `file`,
`path`, `dir` or `sock`: that is where a secret lies, and not the secret.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from tidegate.model.job import Job, Ping
from tidegate.model.plan import Hook

MASK: Final = "***"
PARTS: Final = re.compile(r"pass|secret|token|credential|private|api_?key", re.I)
WORDS: Final = frozenset({"key", "keys", "auth", "authorization", "dsn", "pwd", "cookie", "sig", "signature"})
PLACES: Final = frozenset({"file", "path", "dir", "sock", "stdin"})
DIVIDER: Final = re.compile(r"[^A-Za-z0-9]+")
HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")  # apiToken

# Each is linear in the text: possessive loops, and names of bounded length that begin where no name goes on.
PIECE: Final = r"""(?:\\.|[^\s&;|"'\\]|"(?:[^"\\]|\\.)*+(?:"|\Z)|'[^']*+(?:'|\Z))"""  # of a shell word
LOGIN: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,30}://)([^\s/?#@:\"']{0,500}+)(:[^\s/?#\"']{0,2000}(?=@))?@")
ASSIGNED: Final = re.compile(rf"(?<![\w.-])([\w.-]{{1,100}}+)=({PIECE}++)", re.S)
OPTION: Final = re.compile(rf"(?<![\w-])(--?[A-Za-z][\w-]{{0,100}}+)([ \t]++)(?!-)({PIECE}++)", re.S)
USER: Final = re.compile(rf"(?<![\w-])((?:-u|--user)[ \t=]*+[\"']?[^\s:\"'/]{{1,200}}+:)({PIECE}++)", re.S)
FIELD: Final = re.compile(r"""(?<![\w-])([\w-]{1,100}+)(["']?:[ \t]*+)("(?:[^"\\\n]|\\.)*+"|[^"'\r\n,}]++)""")
BEARER: Final = re.compile(r"\b((?:bearer|basic)[ \t]++)[A-Za-z0-9+/_.~=-]{6,}+", re.I)
URL: Final = re.compile(r"(https?://)(?:[^\s/?#@]*@)?([^\s/?#]*)(.*)", re.S)


def tells_of_secret(name: str) -> bool:
    """Whether what is called so is not to be shown."""
    words = [word.lower() for part in DIVIDER.split(name) for word in HUMP.split(part) if word]
    if not words or words[-1] in PLACES or words[-1].endswith("file") or name in ("PWD", "OLDPWD"):
        return False
    return bool(PARTS.search(name)) or not WORDS.isdisjoint(words)


def mask(text: str) -> str:
    """Free text with what looks like a secret replaced: logins in URLs, NAME=value, --option value, headers."""
    if "@" in text:
        text = LOGIN.sub(_login, text)
        text = USER.sub(rf"\g<1>{MASK}", text)
    elif ":" in text and "-u" in text:
        text = USER.sub(rf"\g<1>{MASK}", text)
    if "=" in text:
        text = ASSIGNED.sub(_assigned, text)
    if "-" in text:
        text = OPTION.sub(_option, text)
    if ":" in text:
        text = FIELD.sub(_field, text)
    return BEARER.sub(rf"\g<1>{MASK}", text)


def mask_argv(command: Sequence[str]) -> list[str]:
    """Arguments, each masked; also what follows an option whose name tells of a secret."""
    shown: list[str] = []
    before = ""
    for argument in command:
        name, equals, _ = argument.partition("=")
        if before and not argument.startswith("-"):
            shown.append(_after_option(before, argument))
        elif (
            equals and DIVIDER.sub("", name).isalnum() and " " not in name and "/" not in name and tells_of_secret(name)
        ):
            shown.append(f"{name}={MASK}")
        else:
            shown.append(mask(argument))
        secret_option = argument.startswith("-") and not equals and tells_of_secret(argument)
        before = argument if secret_option or argument in ("-u", "--user") else ""
    return shown


def mask_env(env: dict[str, str]) -> dict[str, str]:
    """Variables: a value is hidden where the name tells of a secret, else what is secret within it."""
    return {name: MASK if value and tells_of_secret(name) else mask(value) for name, value in env.items()}


def mask_url(url: str) -> str:
    """Scheme and host. The rest is what a ping or webhook address keeps secret."""
    found = URL.fullmatch(url)
    if not found:
        return MASK if url else ""
    rest = f"/{MASK}" if found[3] not in ("", "/") else found[3]
    return f"{found[1]}{found[2]}{rest}"


def redacted(job: Job) -> dict[str, Any]:
    """The definition as plain data, for showing."""
    fields: dict[str, Any] = msgspec.to_builtins(job)
    fields["env"] = mask_env(job.env)
    fields["description"] = mask(job.description)
    if job.command is not None:
        fields["command"] = mask_argv(job.command)
    if job.shell is not None:
        fields["shell"] = mask(job.shell)
    if job.python is not None:
        fields["python"]["args"] = [mask_data(each) for each in job.python.args]
        fields["python"]["kwargs"] = mask_data(job.python.kwargs)
    fields["ping"] = redacted_ping(job.ping)
    return fields


def mask_data(value: Any) -> Any:
    """Data as it is handed to a function: what a name says is secret, and text as everywhere."""
    match value:
        case dict():
            return {key: MASK if item and tells_of_secret(key) else mask_data(item) for key, item in value.items()}
        case list() | tuple():
            return [mask_data(item) for item in value]
        case str():
            return mask(value)
        case _:
            return value


def redacted_ping(ping: Ping) -> dict[str, str]:
    """The hosts that are told."""
    return {"start": mask_url(ping.start), "success": mask_url(ping.success), "failure": mask_url(ping.failure)}


def redacted_hook(hook: Hook) -> dict[str, Any]:
    """A hook as plain data, for showing."""
    fields: dict[str, Any] = msgspec.to_builtins(hook)
    if hook.command is not None:
        fields["command"] = mask_argv(hook.command)
    if hook.webhook is not None:
        fields["webhook"] = mask_url(hook.webhook)
    fields["headers"] = dict.fromkeys(hook.headers, MASK)  # what a header carries for a webhook is a key
    return fields


def _login(found: re.Match[str]) -> str:
    """user:password@ keeps the user; of http a user alone is a token as often as not."""
    if found[3]:
        return f"{found[1]}{found[2]}:{MASK}@"
    return f"{found[1]}{MASK}@" if found[2] and found[1].startswith("http") else found[0]


def _assigned(found: re.Match[str]) -> str:
    return f"{found[1]}={MASK}" if tells_of_secret(found[1]) else found[0]


def _option(found: re.Match[str]) -> str:
    return f"{found[1]}{found[2]}{MASK}" if tells_of_secret(found[1]) else found[0]


def _field(found: re.Match[str]) -> str:
    if not tells_of_secret(found[1]) or found[3].startswith("//"):
        return found[0]
    quote = '"' if found[3].startswith('"') else ""
    return f"{found[1]}{found[2]}{quote}{MASK}{quote}"


def _after_option(option: str, argument: str) -> str:
    if option in ("-u", "--user"):
        user, colon, _ = argument.partition(":")
        return f"{user}:{MASK}" if colon and "://" not in argument else mask(argument)
    return MASK
