"""Several calls in one, for `map` with a chunksize. Standard library only: worker processes import it."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

T = TypeVar("T")
Arguments = tuple[Any, ...]


def batches(arguments: Iterable[Arguments], size: int) -> Iterator[list[Arguments]]:
    """Up to `size` of them at a time."""
    source = iter(arguments)
    while batch := list(islice(source, size)):
        yield batch


def several(fn: Callable[..., T], batch: list[Arguments]) -> list[T]:
    """Each of these calls, one after the other. The first error ends them."""
    return [fn(*each) for each in batch]


def one_by_one(chunks: Iterator[list[T]]) -> Iterator[T]:
    """The results singly, none kept once it is given."""
    for chunk in chunks:
        chunk.reverse()
        while chunk:
            yield chunk.pop()
