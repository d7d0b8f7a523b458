"""What a reload is said to change: jobs, tables of tidegate.toml, and what waits for a restart."""

from datetime import UTC, datetime
from typing import Any

import pytest
from msgspec.structs import replace

from tidegate.engine.dispatcher import Dispatcher
from tidegate.model.command import Record
from tidegate.model.event import Now, PlanLoaded
from tidegate.model.job import Job
from tidegate.model.plan import (
    TABLES,
    Calendar,
    ControlSettings,
    DaemonSettings,
    Diff,
    HistorySettings,
    Hook,
    HttpSettings,
    MetricsSettings,
    Plan,
    diff,
)
from tidegate.model.pool import PoolSettings

NOW = Now(datetime(2026, 3, 2, tzinfo=UTC), 0.0)
OTHERS: dict[str, Any] = {
    "daemon": DaemonSettings(on_stop="leave"),
    "pool": PoolSettings(min=2),
    "http": HttpSettings(port=1),
    "metrics": MetricsSettings(per_job_histograms=False),
    "control": ControlSettings(operators="adm"),
    "history": HistorySettings(keep_runs=1),
    "resources": {"db": 1},
    "calendars": {"c": Calendar(cron="* * * * *")},
    "hooks": {"h": Hook(name="h", command=("x",))},
}


def reload(dispatcher: Dispatcher, plan: Plan) -> Diff:
    (told,) = (one.diff for one in dispatcher.handle([PlanLoaded(plan)], NOW) if isinstance(one, Record) and one.diff)
    return told


def test_a_reload_names_the_tables_that_changed_and_what_waits_for_a_restart() -> None:
    first = Plan(pool=PoolSettings(max=100), jobs={"a": Job(name="a", command=("x",))})
    pooled = replace(first, pool=PoolSettings(max=1000))
    served = replace(pooled, http=HttpSettings(port=1), daemon=DaemonSettings(log_format="json"))
    quiet = replace(pooled, daemon=DaemonSettings(log_level="error"), history=HistorySettings(keep_runs=5))
    dispatcher = Dispatcher()
    assert not [one for one in dispatcher.handle([PlanLoaded(first)], NOW) if isinstance(one, Record)]
    waits = ("daemon.log_format", "http")  # until it is restarted, or they are as they were
    assert [reload(dispatcher, plan) for plan in (pooled, served, served, quiet)] == [
        Diff(unchanged=1, tables=("pool",)),
        Diff(unchanged=1, tables=("daemon", "http"), restart_needed=waits),
        Diff(unchanged=1, restart_needed=waits),
        Diff(unchanged=1, tables=("daemon", "http", "history")),
    ]


@pytest.mark.parametrize("table", TABLES)
def test_every_table_of_a_plan_is_compared(table: str) -> None:
    changes = diff(Plan(), Plan(**{table: OTHERS[table]}), Plan())
    assert changes.tables == (table,)
    assert changes.restart_needed == ((table,) if table in ("http", "metrics", "control") else ())


def test_a_plan_has_no_table_that_is_not_compared() -> None:
    assert {*TABLES, "jobs", "files", "warnings"} == set(Plan.__struct_fields__)
