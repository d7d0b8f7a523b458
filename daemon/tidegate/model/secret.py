"""What is not shown to anybody: values whose names tell of a secret, and addresses that are one. Pure."""

from typing import Final
from urllib.parse import urlsplit

MASK: Final = "•••"
SECRET_WORDS: Final = ("password", "passwd", "passphrase", "pwd", "token", "secret", "key", "credential")


def is_secret(name: str) -> bool:
    """Whether the name of a variable or key tells of a secret."""
    return any(word in name.lower() for word in SECRET_WORDS)


def masked(values: dict[str, str]) -> dict[str, str]:
    """Names with their values, secret ones masked."""
    return {name: MASK if is_secret(name) else value for name, value in values.items()}


def masked_url(url: str) -> str:
    """Only where it leads to: the path of a dead-man's switch is its key, and user and query may be one."""
    if not url:
        return ""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/{MASK}"
