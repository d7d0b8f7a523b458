"""Which boot this is, and which @reboot jobs it still owes."""

from datetime import UTC, datetime

from tidegate.history.entry import JobMemory, Memory
from tidegate.model.job import Boot, Cron, Job
from tidegate.supervisor import boot, recover

AT = datetime(2026, 3, 2, tzinfo=UTC)
JOBS = {
    "a": Job(name="a", command=("true",), trigger=Boot()),
    "b": Job(name="b", command=("true",), trigger=Boot()),
    "off": Job(name="off", command=("true",), trigger=Boot(), enabled=False),
    "other": Job(name="other", command=("true",), trigger=Cron("* * * * *")),
}


def memory(seen: str, **claimed: str) -> Memory:
    jobs = {name: JobMemory("timing", AT, boot_id=boot_id) for name, boot_id in claimed.items()}
    return Memory(jobs=jobs, meta={"boot_id": seen} if seen else {})


def fired(memory: Memory, boot_id: str) -> list[str]:
    return [event.job for event in recover.boot_fires(memory, JOBS, boot_id)]


def test_a_machine_without_a_boot_id_has_an_empty_one(tmp_path):
    assert boot.boot_id(tmp_path / "missing") == ""
    (tmp_path / "boot_id").write_text("abc\n")
    assert boot.boot_id(tmp_path / "boot_id") == "abc"


def test_every_enabled_reboot_job_fires_once_a_boot():
    assert fired(memory(""), "boot-1") == ["a", "b"]
    assert fired(memory("boot-1", a="boot-1", b="boot-1"), "boot-1") == []
    assert fired(memory("boot-1", a="boot-1", b="boot-1"), "boot-2") == ["a", "b"]


def test_what_was_claimed_before_a_crash_in_the_first_turn_is_not_fired_again():
    assert fired(memory("boot-1", a="boot-2", b="boot-1"), "boot-2") == ["b"]


def test_a_job_added_in_mid_boot_waits_for_the_next_one():
    assert fired(memory("boot-1", a="boot-1"), "boot-1") == []
    known = recover.jobs_known(memory("boot-1"), JOBS, AT, "boot-1")
    assert {boot_id for _, _, _, boot_id in known.jobs} == {"boot-1"}


def test_without_a_boot_id_each_start_counts_as_a_boot():
    assert fired(memory(""), "") == ["a", "b"]
    assert fired(memory("", a="", b=""), "") == ["a", "b"]
