"""ResourceMonitor on a made-up machine: thresholds, callbacks, history; each look made by hand."""

import logging
import re
from pathlib import Path
from typing import Any

import pytest
from monitor_world import GIB, World

from tidegate.monitor import RESOURCES, THRESHOLDS, Crossing, ResourceMonitor, Sample, Threshold

PAGE = Path(__file__).parents[2] / "docs/reference/monitor.md"
MEMORY = {"memory": Threshold(high=0.9, low=0.8)}


@pytest.fixture
def world(tmp_path: Path) -> World:
    made = World(tmp_path)
    made.children(100)
    return made


class Heard(list[tuple[str, str, float]]):
    def crossing(self, told: Crossing) -> None:
        self.append(("crossing", told.resource, round(told.value, 3)))

    def relief(self, told: Crossing) -> None:
        self.append(("relief", told.resource, round(told.value, 3)))


def monitor_of(world: World, thresholds: Any = MEMORY, **options: Any) -> tuple[ResourceMonitor, Heard]:
    heard = Heard()
    made = ResourceMonitor(
        thresholds=thresholds, on_crossing=heard.crossing, on_relief=heard.relief, machine=world.machine(), **options
    )
    return made, heard


def look(monitor: ResourceMonitor, world: World, used: float) -> None:
    world.memory(round((1 - used) * 16 * GIB))
    world.clock.now_s += 1
    monitor.check()


def test_crossing_and_relief_are_told_once_each_and_between_them_nothing(world: World) -> None:
    monitor, heard = monitor_of(world)
    for used in (0.5, 0.85, 0.91, 0.95, 0.89, 0.81, 0.92, 0.79, 0.5, 0.85):
        look(monitor, world, used)
    assert heard == [("crossing", "memory", 0.91), ("relief", "memory", 0.79)]
    assert monitor.crossed() == frozenset()


def test_the_bounds_themselves_count(world: World) -> None:
    monitor, heard = monitor_of(world, {"memory": Threshold(0.75, 0.5)})
    look(monitor, world, 0.75)
    assert monitor.crossed() == {"memory"}
    look(monitor, world, 0.5)
    assert [kind for kind, *_ in heard] == ["crossing", "relief"]


def test_equal_bounds_do_not_tell_both_at_one_value(world: World) -> None:
    monitor, heard = monitor_of(world, {"memory": Threshold(0.75, 0.75)})
    for used in (0.75, 0.75, 0.5):
        look(monitor, world, used)
    assert heard == [("crossing", "memory", 0.75), ("relief", "memory", 0.5)]


def test_a_reading_that_is_lost_is_neither_crossing_nor_relief(world: World) -> None:
    monitor, heard = monitor_of(world)
    look(monitor, world, 0.95)
    world.write("proc/meminfo", "")
    monitor.check()
    assert monitor.current().memory_used_ratio is None
    assert monitor.crossed() == {"memory"}
    look(monitor, world, 0.5)
    assert [kind for kind, *_ in heard] == ["crossing", "relief"]


def test_each_resource_crosses_by_itself(world: World) -> None:
    monitor, heard = monitor_of(world, THRESHOLDS)
    look(monitor, world, 0.1)
    world.pressure("memory", 200_000, 0)
    world.pressure("io", 500_000, 400_000)
    world.runnable(13)
    look(monitor, world, 0.1)
    assert heard == [("crossing", "cpu", 3.0), ("crossing", "memory_pressure", 0.2), ("crossing", "io", 0.4)]
    world.runnable(1)
    look(monitor, world, 0.1)
    assert [name for kind, name, _ in heard if kind == "relief"] == ["cpu", "memory_pressure", "io"]


@pytest.mark.parametrize("resource", RESOURCES)
def test_every_resource_can_cross(world: World, resource: str) -> None:
    monitor, heard = monitor_of(world, {resource: Threshold(0.01, 0.001)})
    world.swap(GIB, GIB)
    look(monitor, world, 0.0)
    for name in ("cpu", "memory", "io"):
        world.pressure(name, 900_000, 900_000)
    world.runnable(13)
    world.stat(4, 0)
    world.swap(GIB, 0)
    look(monitor, world, 0.99)
    assert [(kind, name) for kind, name, _ in heard] == [("crossing", resource)]


def test_a_callback_that_fails_is_logged_and_the_others_are_called(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def fails(told: Crossing) -> None:
        heard.append(told.resource)
        raise RuntimeError("no such number")

    thresholds = {"memory": Threshold(0.9, 0.8), "swap": Threshold(0.5, 0.4)}
    monitor = ResourceMonitor(thresholds=thresholds, on_crossing=fails, machine=world.machine())
    world.swap(GIB, 0)
    look(monitor, world, 0.95)
    assert heard == ["memory", "swap"]
    assert [record.name for record in caplog.records if record.levelno == logging.ERROR] == ["tidegate.monitor"] * 2
    assert "no such number" in caplog.text


def test_callbacks_may_ask_the_monitor(world: World) -> None:
    asked: list[Any] = []

    def ask(told: Crossing) -> None:
        asked.append(
            (monitor.current() == told.sample, len(monitor.history()), monitor.optimal_workers(), told.threshold)
        )
        monitor.stop()

    monitor = ResourceMonitor(thresholds=MEMORY, on_crossing=ask, machine=world.machine())
    look(monitor, world, 0.95)
    assert asked == [(True, 1, 1, MEMORY["memory"])]


def test_history_is_bounded_and_the_newest_stay(world: World) -> None:
    monitor, _ = monitor_of(world, history=3)
    for used in (0.1, 0.2, 0.3, 0.4, 0.5):
        look(monitor, world, used)
    assert [round(seen.memory_used_ratio or 0, 3) for seen in monitor.history()] == [0.3, 0.4, 0.5]
    assert monitor.current() is monitor.history()[-1]


def test_asked_before_it_began_it_looks_and_calls_nobody(world: World) -> None:
    monitor, heard = monitor_of(world)
    world.memory(GIB)
    assert monitor.current().memory_used_ratio == 15 / 16
    assert (heard, monitor.history()) == ([], [])


def test_workers_follow_what_others_take(world: World) -> None:
    monitor, _ = monitor_of(world)
    look(monitor, world, 0.1)
    world.stat(2, 2)
    look(monitor, world, 0.1)
    assert (monitor.optimal_workers(), monitor.optimal_workers("cpu"), monitor.optimal_workers("io")) == (2, 2, 10)


def test_what_is_watched_is_not_foreign(world: World) -> None:
    monitor, _ = monitor_of(world)
    world.process(900, parent=1)
    monitor.watch([900])
    look(monitor, world, 0.1)
    world.stat(2, 2)
    world.process(900, parent=1, cpu_s=2)
    look(monitor, world, 0.1)
    assert (monitor.current().foreign_cores, monitor.optimal_workers()) == (0.0, 4)


def test_each_fallback_is_said_once(world: World, caplog: pytest.LogCaptureFixture) -> None:
    monitor, _ = monitor_of(world)
    look(monitor, world, 0.1)
    assert caplog.messages == []
    for name in ("cpu", "memory", "io"):
        world.write(f"proc/pressure/{name}", "")
    for _ in range(5):
        look(monitor, world, 0.1)
    assert caplog.messages == [
        "pressure: the kernel tells no pressure (PSI; boot with psi=1); nothing tells it instead"
    ]
    assert [use.what for use in monitor.readings_in_use() if use.instead] == ["pressure"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"check_interval_s": 0.01}, "check_interval_s must be at least 0.05"),
        ({"check_interval_s": float("nan")}, "check_interval_s"),
        ({"check_interval_s": float("inf")}, "check_interval_s"),
        ({"history": 0}, "history must be 1 to 1000000"),
        ({"history": 10**9}, "history must be 1 to 1000000"),
        ({"thresholds": {"cpus": Threshold(2, 1)}}, "there is no resource 'cpus'; there are cpu, cpu_busy"),
        ({"thresholds": {"cpu": Threshold(1, 2)}}, r"cpu: low \(2\) must not be above high \(1\)"),
        ({"thresholds": {"cpu": Threshold(float("nan"), 2)}}, "low"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ResourceMonitor(**options)


def test_another_kind_of_worker_is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="not 'gpu'"):
        monitor_of(world)[0].optimal_workers("gpu")  # type: ignore[arg-type]


def test_the_page_names_every_field_resource_and_method() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for name in (*Sample.__struct_fields__, *RESOURCES):
        assert re.search(rf"^\|.*`{name}`", text, re.M), name
    for name in vars(ResourceMonitor):
        assert name.startswith("_") or re.search(rf"^\| .*`{name}\(", text, re.M), name
    for resource, threshold in THRESHOLDS.items():
        (shown,) = re.findall(rf"^\| `{resource}` \|.*\| (.*) \|$", text, re.M)
        assert [float(number) for number in shown.split(" / ")] == [threshold.high, threshold.low]
