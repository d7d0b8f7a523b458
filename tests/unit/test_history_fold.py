"""What stands in a row about who was asked to start it: recovery rests on it."""

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from tidegate.history.entry import Unended
from tidegate.history.fold import fold
from tidegate.model.command import Fact, Record
from tidegate.model.run import Outcome, Run, State

AT = datetime(2026, 3, 2, tzinfo=UTC)
RUN = Run(run_id="r", job="a", scheduled_at=AT, queued_at=AT)


def keeper_after(state: State, fact: Fact, before: Unended | None) -> tuple[str, str]:
    run = replace(RUN, state=state, outcome=Outcome.FAILED if state is State.RETRYING else None)
    record = Record(fact=fact, at=AT, job="a", run=run)
    known = {} if before is None else {"r": before}
    life = fold([([record], "now")], era=0, boot_id="this", known=known).lives["r"]
    return life.keeper, life.boot_id


@pytest.mark.parametrize(
    ("state", "fact", "expected"),
    [
        (State.QUEUED, Fact.RUN_ARMED, ("now", "this")),
        (State.STARTING, Fact.RUN_STARTING, ("now", "this")),
        (State.RUNNING, Fact.RUN_STARTED, ("before", "earlier")),
        (State.RETRYING, Fact.RUN_RETRYING, ("before", "earlier")),
        (State.QUEUED, Fact.RUN_QUEUED, ("", "earlier")),  # its next attempt was asked of nobody
        (State.QUEUED, Fact.RUN_UNARMED, ("", "earlier")),
        (State.QUEUED, Fact.RUN_RESTORED, ("", "earlier")),
    ],
)
def test_only_who_may_have_been_started_names_a_keeper(state, fact, expected):
    assert keeper_after(state, fact, Unended(replace(RUN, state=State.STARTING), "earlier", "before")) == expected


def test_a_fire_that_is_claimed_was_asked_of_nobody():
    assert keeper_after(State.QUEUED, Fact.RUN_QUEUED, None) == ("", "this")
