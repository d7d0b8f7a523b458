"""What is said when something that was asked for is not done. A sentence for a person, and a kind for a program."""

from typing import Literal

Kind = Literal["not_found", "conflict", "unavailable", "invalid"]


class Refused(Exception):
    """Not done. `kind`: there is no such thing, it cannot be now, the daemon cannot now, or the request is wrong."""

    def __init__(self, kind: Kind, sentence: str) -> None:
        super().__init__(sentence)
        self.kind = kind
        self.sentence = sentence
