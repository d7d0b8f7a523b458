"""Reads cron expressions. Pure: no zone, no clock.

Debian's cron is the judge of what an expression means, and cronsim reads the single terms. What Debian does not know is
added here (seconds, L, LW, nL, n#k, H); what cronsim takes and Debian does not (`5/15`) is refused with a hint.

`H` stands for a value spread by a stable hash of the job's name and the field: `H` over the whole field (days of the
month only to 28, so that every month has it), `H(a-b)` within a range, `H/step` for every step-th value from a spread
start, `H(a-b)/step` for both.
"""

import re
from difflib import get_close_matches
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from cronsim.cronsim import CronSim, Field

from tidegate.triggers.errors import TriggerError, quoted
from tidegate.triggers.masks import DOM_LAST, DOM_LAST_WEEKDAY, DOW_LAST, DOW_NTH, CronFields, Days, lowest

EXPRESSION_CHARS_MAX: Final = 1000  # long lists fit; what is longer is not a schedule
STEP_DIGITS_MAX: Final = 4  # steps beyond the field are legal and mean its first value; this many digits are a slip
NAMES: Final = ("second", "minute", "hour", "day of month", "month", "day of week")
LOW: Final = (0, 0, 0, 1, 1, 0)
HIGH: Final = (59, 59, 23, 31, 12, 7)
SPREAD_HIGH: Final = (59, 59, 23, 28, 12, 6)
EXPECTED: Final = ("0-59", "0-59", "0-23", "1-31", "1-12 or jan-dec", "0-7 or sun-sat")
MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
WORDS: Final[tuple[dict[str, int], ...]] = (
    {},
    {},
    {},
    {},
    {n: i + 1 for i, n in enumerate(MONTHS)},
    {n: i for i, n in enumerate(WEEKDAYS)},
)
DOM, DOW = 3, 5
NICKNAMES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
DIGITS: Final = re.compile(r"[0-9]{1,9}")
SPREAD: Final = re.compile(r"h(?:\(([^()]*)-([^()]*)\))?(?:/(.*))?")


def parse(expression: str, job_name: str) -> CronFields:
    """Read an expression; equal results are shared. Raises TriggerError, also for one that never fires."""
    if len(expression) > EXPRESSION_CHARS_MAX:
        raise TriggerError(f"a cron expression has at most {EXPRESSION_CHARS_MAX} characters, got {len(expression)}")
    texts = expression.lower().split()
    if len(texts) == 1 and texts[0].startswith("@"):
        texts = _nickname(texts[0]).split()
    unit_s = 60
    if len(texts) == 5:
        texts.insert(0, "0")
    elif len(texts) == 6:
        unit_s = 1
    else:
        raise TriggerError(
            "a cron expression has 5 fields (minute hour day-of-month month day-of-week), or 6 with seconds first, "
            f"got {len(texts)} in {quoted(expression)}"
        )
    if "h" in expression or "H" in expression:
        texts = [_spread(index, text, job_name) if "h" in text else text for index, text in enumerate(texts)]
    masks = [_mask(index, text) for index, text in enumerate(texts)]
    star = [text[0] == "*" for text in texts]
    fields = _fields(*masks, star[DOM] or star[DOW], star[1] or star[2], unit_s)
    if fields is None:
        raise TriggerError(
            f"never fires: no date matches day of month {quoted(texts[3])}, month {quoted(texts[4])} "
            f"and day of week {quoted(texts[5])}"
        )
    return fields


def stable_hash(*parts: str) -> int:
    """64 bits that depend on the parts alone, the same on every machine and in every process."""
    return int.from_bytes(blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


def _nickname(text: str) -> str:
    expression = NICKNAMES.get(text)
    if expression is not None:
        return expression
    if text == "@reboot":
        raise TriggerError('"@reboot" is no time of day and cannot be used here')
    near = get_close_matches(text, [*NICKNAMES, "@reboot"], 1)
    hint = f"; did you mean {quoted(near[0])}?" if near else ""
    raise TriggerError(f"must be one of {', '.join(NICKNAMES)} or @reboot, got {quoted(text)}{hint}")


@lru_cache(maxsize=4096)
def _fields(
    seconds: int, minutes: int, hours: int, doms: int, months: int, dows: int, both: bool, wildcard: bool, unit_s: int
) -> CronFields | None:
    days = _days(doms, months, dows, both)
    if days is None:
        return None
    first_in_hour_s = lowest(minutes) * 60 + lowest(seconds)
    last_in_hour_s = (minutes.bit_length() - 1) * 60 + seconds.bit_length() - 1
    return CronFields(
        seconds=seconds,
        minutes=minutes,
        hours=hours,
        days=days,
        wildcard=wildcard,
        unit_s=unit_s,
        first_in_hour_s=first_in_hour_s,
        first_in_day_s=lowest(hours) * 3600 + first_in_hour_s,
        last_in_hour_s=last_in_hour_s,
        last_in_day_s=(hours.bit_length() - 1) * 3600 + last_in_hour_s,
    )


@lru_cache(maxsize=4096)
def _days(doms: int, months: int, dows: int, both: bool) -> Days | None:
    days = Days(doms, months, dows, both)
    return days if days.ever() else None


@lru_cache(maxsize=4096)
def _mask(index: int, text: str) -> int:
    mask = 0
    for term in text.split(","):
        for item in Field(index).parse(_checked(index, term)):
            mask |= 1 << _bit(index, item)
    return mask


def _bit(index: int, item: int | tuple[int, int]) -> int:
    """Where masks.py keeps what cronsim read."""
    match item:
        case (dow, CronSim.LAST):
            return DOW_LAST + dow % 7
        case (dow, nth):
            return DOW_NTH + 7 * nth + dow % 7
        case CronSim.LAST:
            return DOM_LAST
        case CronSim.LAST_WEEKDAY:
            return DOM_LAST_WEEKDAY
        case value:
            return value % 7 if index == DOW else value


def _checked(index: int, term: str) -> str:
    """One term of a list in the words of cronsim, with numbers for names. Raises what Debian would refuse."""
    body, slash, step = term.partition("/")
    if slash:
        _step(index, step)
    if body == "*":
        return term
    first, dash, last = body.partition("-")
    if dash:
        low, high = _value(index, first, body), _value(index, last, body)
        if index == DOW and last == "sun" and low > 0:
            high = 7  # fri-sun: the week that the person means ends on Sunday
        if low > high:
            raise TriggerError(f"{NAMES[index]} range must rise, got {quoted(body)}")
        # cronsim would read 5-5/10 as 5/10, and that as 5-59/10.
        return str(low) if low == high else f"{low}-{high}{slash}{step}"
    if slash:
        low_text = body if DIGITS.fullmatch(body) else str(LOW[index])
        raise TriggerError(
            f'{NAMES[index]} step needs a range or *, such as "{low_text}-{HIGH[index]}/{step}", got {quoted(term)}'
        )
    if index == DOM and body in ("l", "lw"):
        return body.upper()
    if index == DOW and "#" in body:
        weekday, _, nth = body.partition("#")
        if nth not in ("1", "2", "3", "4", "5"):
            raise TriggerError(f"day of week after # must be 1-5, got {quoted(nth)}")
        return f"{_value(index, weekday, body)}#{nth}"
    if index == DOW and body.endswith("l") and len(body) > 1:
        return f"{_value(index, body[:-1], body)}L"
    return str(_value(index, body))


def _value(index: int, text: str, term: str = "") -> int:
    """Of a field, as a number; `term` is what it is a part of."""
    value = WORDS[index].get(text)
    if value is None:
        value = int(text) if DIGITS.fullmatch(text) else -1
        if not LOW[index] <= value <= HIGH[index]:
            hint = " (write * for any)" if text == "?" else ""
            if text[:3] in WORDS[index] and text.isalpha():
                hint = f"; write {quoted(text[:3])}"
            whole = f" in {quoted(term)}" if term else ""
            raise TriggerError(f"{NAMES[index]} must be {EXPECTED[index]}, got {quoted(text)}{whole}{hint}")
    return value


def _step(index: int, text: str) -> int:
    step = int(text) if DIGITS.fullmatch(text) and len(text) <= STEP_DIGITS_MAX else 0
    if step < 1:
        raise TriggerError(f"{NAMES[index]} step must be a whole number from 1 to 9999, got {quoted(text)}")
    return step


def _spread(index: int, text: str, job_name: str) -> str:
    """The field with each H replaced by the values that this job gets."""
    return ",".join(_spread_term(index, term, job_name) if term.startswith("h") else term for term in text.split(","))


def _spread_term(index: int, term: str, job_name: str) -> str:
    match = SPREAD.fullmatch(term)
    if match is None:
        raise TriggerError(f"{NAMES[index]} must be H, H(a-b), H/step or H(a-b)/step, got {quoted(term.upper())}")
    first, last, step_text = match.groups()
    low = LOW[index] if first is None else _value(index, first)
    high = SPREAD_HIGH[index] if last is None else _value(index, last)
    if low > high:
        raise TriggerError(f"{NAMES[index]} range must rise, got {quoted(term.upper())}")
    spread = stable_hash("cron", NAMES[index], job_name)
    if step_text is None:
        return str(low + spread % (high - low + 1))
    step = _step(index, step_text)
    return f"{low + spread % min(step, high - low + 1)}-{high}/{step}"
