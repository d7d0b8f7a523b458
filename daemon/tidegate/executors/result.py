"""What a function returned, before anybody else reads it: JSON from a process in which user code runs. Pure."""

from typing import Any, Final

import msgspec

from tidegate.model.limits import RESULT_BYTES_MAX, RESULT_DEPTH_MAX

NOT_KEPT: Final = "the result is not kept"


def unfit_result(text: str) -> str:
    """Why a result cannot be kept, as a sentence; "" for one that can."""
    size = len(text.encode(errors="replace"))
    if size > RESULT_BYTES_MAX:
        return f"{NOT_KEPT}: {size} bytes of JSON, and at most {RESULT_BYTES_MAX} are kept; write a file"
    try:
        layer: list[Any] = [msgspec.json.decode(text)]
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        return f"{NOT_KEPT}: it is no JSON that others can read: {error}"
    for _ in range(RESULT_DEPTH_MAX):
        layer = [item for value in layer for item in _items(value)]
        if not layer:
            return ""
    return f"{NOT_KEPT}: its lists and objects are nested more than {RESULT_DEPTH_MAX} deep"


def _items(value: Any) -> list[Any]:
    match value:
        case dict():
            return list(value.values())
        case list():
            return value
        case _:
            return []
