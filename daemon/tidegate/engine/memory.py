"""The gate for memory: whether one more run fits into what is left, and how near the end of it is. No I/O, no clock.

Without swap the kernel gives no sign before it kills: pressure stays at zero. What tells is how much is left and how
fast it goes; so part of the limit stays free (the reserve F), and running runs have their predicted peaks reserved (O).
"""

import math
from collections import deque
from typing import Final

from tidegate.model.pool import PoolSettings

LOOKS_MAX: Final = 1_000  # kept of them at the most, however long memory_window and however short look_min
ON_S: Final = 0.1  # looks nearer to each other tell nothing of whether it falls on
LOOK_PART: Final = 0.25  # of the time until the reserve is reached, to the next look


class MemoryWatch:
    """Call `look` at most 20 times a second while something runs; `next_look_s` says when."""

    def __init__(self, settings: PoolSettings) -> None:
        self.available_bytes: int | None = None
        self.limit_bytes: int | None = None
        self.fill_bytes_per_s = 0.0  # how fast it goes, over 1 s; negative while it comes back
        self.falling = False  # it gets less, by more than noise, and still does
        self.unforeseen_bytes_per_s = 0.0  # of that, what no reservation accounts for
        self.worst_fill_bytes_per_s = 0.0  # that was seen, forgotten by half in memory_worst_s
        self.reserve_bytes = 0  # F
        self.outstanding_bytes = 0  # O, as last told
        self.tier = 0
        self.since_mono_s: float | None = None  # the tier is what it is
        self.reason = ""  # why the tier is not 0
        self._settings = settings
        self._looks: deque[tuple[float, int, int]] = deque(maxlen=LOOKS_MAX)  # when, available, foreseen
        self._exact: tuple[float, int, int] | None = None  # the last of them that knew what each run held then
        self._pressed = False  # memory pressure was too high and is not low again
        self._fell_mono_s: float | None = None  # when it last fell

    def configure(self, settings: PoolSettings) -> None:
        """Other settings, from the next look on."""
        self._settings = settings

    @property
    def calm(self) -> bool:
        """Nothing is wrong: more may be begun as far as memory goes."""
        return self.tier == 0

    @property
    def shortfall_bytes(self) -> int:
        """What is missing to the reserve, or will be within memory_freeze_s; 0: nothing."""
        if self.available_bytes is None:
            return 0
        soon = self.unforeseen_bytes_per_s * self._settings.memory_freeze_s
        return max(0, int(self.reserve_bytes - self.available_bytes + soon))

    @property
    def reserve_in_s(self) -> float:
        """t: until the reserve is reached, at the rate that was not foreseen."""
        return self._reaches_in_s(self.reserve_bytes)

    def _reaches_in_s(self, left_bytes: float) -> float:
        if self.available_bytes is None or not self.falling or self.unforeseen_bytes_per_s <= 0:
            return math.inf
        return max(0.0, self.available_bytes - left_bytes) / self.unforeseen_bytes_per_s

    def look(
        self,
        available_bytes: int | None,
        limit_bytes: int | None,
        memory_some_ratio: float | None,
        now_mono_s: float,
        outstanding_bytes: int | None = None,
        foreseen_bytes: int = 0,
        *,
        exact: bool = True,
    ) -> None:
        """A reading. What cannot be read holds nothing back: None for both opens the gate.

        `foreseen_bytes` is what running runs hold of what is reserved for them, Σ min(present, predicted): to grow into
        that is no alarm. Unless it was seen with this reading (`exact`), they are taken to have gone on into what is
        reserved for them since: somebody else who takes it is found out by the next exact look.
        """
        if outstanding_bytes is not None:
            self.outstanding_bytes = outstanding_bytes
        if available_bytes is None or limit_bytes is None or limit_bytes <= 0:
            self.available_bytes = self.limit_bytes = None
            self._looks.clear()
            self._exact = None
            self.falling, self.fill_bytes_per_s, self.unforeseen_bytes_per_s = False, 0.0, 0.0
            self._set_tier(0, "", now_mono_s)
            return
        self.available_bytes, self.limit_bytes = max(0, available_bytes), limit_bytes
        self._fill((now_mono_s, self.available_bytes, foreseen_bytes), exact)
        self.reserve_bytes = self._reserve(limit_bytes)
        if self.falling:
            self._fell_mono_s = now_mono_s
        if memory_some_ratio is not None and math.isfinite(memory_some_ratio):  # else there is no news of it
            bound = self._settings.memory_pressure_leave if self._pressed else self._settings.memory_pressure
            self._pressed = memory_some_ratio > bound
        tier, reason = self._judge()
        self._set_tier(tier, reason, now_mono_s)

    def admits(self, predicted_bytes: int, outstanding_bytes: int, running: int) -> str | None:
        """Why a run that is predicted to need this may not start now; None when it may.

        `outstanding_bytes` is O: Σ max(0, predicted − present) over the running runs.
        """
        self.outstanding_bytes = outstanding_bytes
        if self.available_bytes is None or self.limit_bytes is None:
            return None
        if running == 0:  # one run always: it will not need what it was taken to need, or fails by itself
            return self.reason if self.tier == 3 and not self._stuck() else None
        if self.tier:
            return self.reason
        left = self.available_bytes - self.reserve_bytes - outstanding_bytes
        if left >= predicted_bytes:
            return None
        return (
            f"it will need {shown(predicted_bytes)} of memory, and {shown(max(0, left))} can be given: "
            f"{shown(self.available_bytes)} are left, {shown(self.reserve_bytes)} stay free, "
            f"{shown(outstanding_bytes)} are reserved for what runs"
        )

    def next_look_s(self, active: bool = True) -> float | None:
        """Seconds to the next look; None while nothing runs (`active` False)."""
        if not active:
            return None
        settings = self._settings
        if self.available_bytes is None:
            return settings.look_s_max
        return min(settings.look_s_max, max(settings.look_s_min, self.reserve_in_s * LOOK_PART))

    # --- what the readings mean -----------------------------------------------------------------------

    def _fill(self, look: tuple[float, int, int], exact: bool) -> None:
        """The fill rate over the last second, what of it was not foreseen, and the worst of that."""
        assert self.limit_bytes is not None
        now_mono_s, available_bytes, foreseen_bytes = look
        looks, settings = self._looks, self._settings
        noise = settings.memory_falling * self.limit_bytes
        if looks and now_mono_s <= looks[-1][0]:
            looks.pop()  # a second reading of the same instant replaces the first
        before_s = looks[-1][0] if looks else now_mono_s
        looks.append(look)
        while len(looks) > 2 and looks[1][0] <= now_mono_s - settings.memory_window_s:
            looks.popleft()
        if exact:
            self._exact = look
        begin_s, begin_bytes, begin_foreseen = looks[0]
        # Over at least the time between two looks: a page cache that was counted late is no flood.
        span_s = max(now_mono_s - begin_s, settings.look_s_max)
        fell_bytes = begin_bytes - available_bytes
        self.fill_bytes_per_s = fell_bytes / span_s
        # What is available and what running runs hold of their reservations are one sum, until somebody takes more.
        unforeseen_bytes = fell_bytes + begin_foreseen - foreseen_bytes - self._assumed_bytes()
        self.unforeseen_bytes_per_s = max(0.0, unforeseen_bytes / span_s)
        self.falling = self.fill_bytes_per_s > noise and self._fell_twice(noise)
        kept = 0.5 ** (max(0.0, now_mono_s - before_s) / settings.memory_worst_s)
        worst = self.unforeseen_bytes_per_s if self.falling else 0.0
        self.worst_fill_bytes_per_s = max(self.worst_fill_bytes_per_s * kept, worst)

    def _assumed_bytes(self) -> int:
        """How far running runs are taken to have gone on into their reservations in the window, beyond what they told:
        what went since it was last known what each holds, as far as it is reserved."""
        begin, now = self._looks[0], self._looks[-1]
        known = self._exact or begin
        before = self._untold(known, begin) if begin[0] > known[0] else 0
        return self._untold(known, now) - before

    def _untold(self, known: tuple[float, int, int], look: tuple[float, int, int]) -> int:
        fell_bytes = known[1] - look[1] - (look[2] - known[2])
        return min(self.outstanding_bytes, max(0, fell_bytes))

    def _fell_twice(self, noise: float) -> bool:
        """In the last tenth of a second or more, and in one before it: a process that begins takes one leap."""
        then_s, left_bytes, _ = self._looks[-1]
        falls = 0
        for at_s, before_bytes, _ in reversed(self._looks):
            if then_s - at_s < ON_S:
                continue
            if before_bytes - left_bytes <= noise * (then_s - at_s):
                return False
            falls += 1
            if falls == 2:
                return True
            then_s, left_bytes = at_s, before_bytes
        return False

    def _reserve(self, limit_bytes: int) -> int:
        """F = min(4 GiB, max(10 %, min(512 MiB, 15 %))) + worst fill rate × 0.3 s, at most 25 % of the limit."""
        settings = self._settings
        least = min(settings.memory_reserve_least_bytes, limit_bytes * settings.memory_reserve_least_share)
        still = min(settings.memory_reserve_most_bytes, max(limit_bytes * settings.memory_reserve, least))
        fill = self.worst_fill_bytes_per_s * settings.memory_fill_s
        return int(min(still + fill, limit_bytes * settings.memory_reserve_most_share))

    def _judge(self) -> tuple[int, str]:
        """The tier, with its sentence."""
        assert self.available_bytes is not None
        settings, available, reserve, soon_s = (
            self._settings,
            self.available_bytes,
            self.reserve_bytes,
            self.reserve_in_s,
        )
        left = f"{shown(available)} of memory are left, and {shown(reserve)} stay free"
        rate = f"{left}; {shown(int(max(0.0, self.fill_bytes_per_s)))} go each second"
        # Both against the same bound: to be near the reserve is what the second tier is for.
        last = reserve * settings.memory_kill_below
        if available < last or self._reaches_in_s(last) < settings.memory_kill_s:
            return 3, rate
        if available < reserve or soon_s < settings.memory_freeze_s:
            return 2, rate
        if soon_s < settings.memory_soon_s:
            return 1, rate
        if available < reserve * settings.memory_margin:
            return 1, left
        if available - self.outstanding_bytes < reserve:  # what runs came to need more than it was let in for
            return 1, f"{left}; {shown(self.outstanding_bytes)} are reserved for what runs"
        if self._pressed:
            return 1, "too much waits for memory: more would only make it wait longer"
        return 0, ""

    def _set_tier(self, tier: int, reason: str, now_mono_s: float) -> None:
        if tier != self.tier or self.since_mono_s is None:
            self.since_mono_s = now_mono_s
        self.tier, self.reason = tier, reason

    def _stuck(self) -> bool:
        """Short for long and nobody takes more: waiting for it to change may be waiting for ever."""
        if not self._looks or self.since_mono_s is None:
            return False
        begin_s = self.since_mono_s if self._fell_mono_s is None else max(self.since_mono_s, self._fell_mono_s)
        return self._looks[-1][0] - begin_s >= self._settings.stuck_s


def shown(size_bytes: int) -> str:
    """For a person: 1.5 GiB, 38 MiB."""
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if size_bytes >= unit:
            value = size_bytes / unit
            return f"{value:.1f} {name}" if value < 10 else f"{value:.0f} {name}"
    return f"{size_bytes} B"
