"""EASY backfill: who may pass a head of the queue that memory holds back. Pure.

The head gets the memory at the instant when enough of what runs is predicted to have ended. A run behind it may pass if
it is predicted to end before that, or if it takes only what is left over then (Lifka, 1995). What nobody can predict
never ends, so behind a head that waits for such a run nobody passes at all.
"""

import math
from collections.abc import Iterable

from msgspec import Struct


class Ending(Struct, frozen=True):
    """A run that holds memory until it ends."""

    ends_mono_s: float | None  # predicted; None: nobody knows
    bytes: int  # predicted, or present where that is more


def may_pass(
    head_bytes: int,
    room_bytes: int,
    running: Iterable[Ending],
    candidate_bytes: int,
    candidate_s: float | None,
    now_mono_s: float,
) -> bool:
    """Whether a run that fits now may start before the head, which does not. `room_bytes` is A − F − O, `candidate_s`
    how long it is predicted to take (None: nobody knows)."""
    turn_mono_s, spare_bytes = turn(head_bytes, room_bytes, running, now_mono_s)
    if candidate_s is not None and now_mono_s + candidate_s <= turn_mono_s < math.inf:
        return True
    return candidate_bytes <= spare_bytes


def turn(head_bytes: int, room_bytes: int, running: Iterable[Ending], now_mono_s: float) -> tuple[float, int]:
    """When the head is predicted to fit, and what is left over then; (inf, 0) where nobody knows.

    A run that should have ended by now is taken to end now: the head's turn is rather too near than too far.
    """
    left_bytes, turn_mono_s = room_bytes, now_mono_s
    for each in sorted(running, key=_end):
        if left_bytes >= head_bytes or each.ends_mono_s is None:
            break
        left_bytes += each.bytes
        turn_mono_s = max(now_mono_s, each.ends_mono_s)
    return (turn_mono_s, left_bytes - head_bytes) if left_bytes >= head_bytes else (math.inf, 0)


def _end(each: Ending) -> float:
    return math.inf if each.ends_mono_s is None else each.ends_mono_s
