"""Threat 20: whatever is too large, too deep or no file at all is refused with a clear sentence, at once."""

import gc
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tidegate.model import limits
from tidegate.settings import order, read, source
from tidegate.settings.read import SettingsError, load

GOOD = '[jobs.good]\ncommand = ["true"]\n'
CPU_S_MAX = 0.1


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("jobs.d").mkdir()
    Path("tidegate.toml").write_text("")


def refused(path: str = ".") -> list[str]:
    gc.disable()  # what the test runner has piled up is not what is measured
    try:
        began = time.process_time()
        with pytest.raises(SettingsError) as caught:
            load(Path(path))
        spent_s = time.process_time() - began
    finally:
        gc.enable()
    assert spent_s < CPU_S_MAX
    return [str(problem) for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = " + "[" * 100_000, "1: tables or lists are nested deeper than 32 levels"),
        ("a = " + "[" * 100_000 + "]" * 100_000, "1: tables or lists are nested deeper than 32 levels"),
        ("\na = " + "{a=" * 50_000 + "1" + "}" * 50_000, "2: tables or lists are nested deeper than 32 levels"),
        ("a" + ".a" * 100_000 + " = 1", "1: tables or lists are nested deeper than 32 levels"),
        ("\n\n[a" + ".a" * 100_000 + "]", "3: tables or lists are nested deeper than 32 levels"),
        ("a = { b = { " + "c." * 100_000 + "d = 1 } }", "1: tables or lists are nested deeper than 32 levels"),
        ("x = 1\ny = " + "9" * 5000, "2: not TOML: a number of too many digits"),
        ("[jobs.x]\nnice = " + "9" * 4000, "not a number"),
        ("[jobs.x]\nnice = 0x" + "F" * 100_000, "not a number"),
        ("[jobs.x]\nretries.factor = 1e999", "not a number"),
        ("[jobs.x]\nat = 2026-02-30T00:00:00Z", "2: not TOML: "),
        ("[jobs.x]\nat = 0001-01-01T00:00:00+23:59", "2: jobs.x.at: is beyond the calendar"),
        ("a = \0", "1: not TOML: "),
        ("a = 1\rb = 2", "1: not TOML: "),
        ("[[jobs]]\n" * 10_000, "jobs: must be a table, got a list"),
        ("".join(f"k{number} = 1\n" for number in range(5000)), "unknown key"),
        ('"' + "k" * 1_000_000 + '" = 1', "unknown key"),
        ('a = "' + "x" * 1_000_000, "1: not TOML: "),
        ('a = """' + '\\"""' * 100_000, "1: not TOML: "),
        ('a = "' + "[" * 100_000 + '"', "1: a: unknown key"),
        ("[jobs.x]\ncommand = [" + "3," * 20_000 + "]", "jobs.x.command[999]"),
        ("[jobs.x]\nshell = 'x'\ncron = '" + "1," * 100_000 + "'", "3: jobs.x.cron: "),
        ("[jobs.x]\nshell = 'x'\nevery = '" + "1h" * 100_000 + "'", "3: jobs.x.every: "),
        ("[jobs.x]\nshell = 'x'\ntimezone = '" + "a" * 100_000 + "'", "3: jobs.x.timezone: "),
    ],
)
def test_huge_and_deep_values_are_refused_within_a_tenth_of_a_second(text: str, message: str) -> None:
    Path("jobs.d/a.toml").write_text(text)
    problems = refused()
    if message == "not a number":
        assert any("must be a" in problem and "number from" in problem for problem in problems), problems[:3]
    else:
        assert any(message in problem for problem in problems), problems[:3]
    assert all(len(problem) < 500 for problem in problems)
    assert len(problems) <= limits.ERRORS_MAX


def test_nesting_at_the_limit_is_read() -> None:
    depth = limits.DEPTH_MAX - 1
    Path("jobs.d/a.toml").write_text("a = " + "[" * depth + "]" * depth)
    assert refused() == ["jobs.d/a.toml:1: a: unknown key"]


def test_brackets_in_strings_are_no_nesting() -> None:
    Path("jobs.d/a.toml").write_text(f"[jobs.x]\nshell = '{'[{' * 50} {'.' * 50}'\n")
    assert load(Path()).jobs["x"].shell is not None


def test_a_file_over_the_limit_is_refused() -> None:
    with open("jobs.d/a.toml", "wb") as file:
        file.truncate(limits.FILE_BYTES_MAX + 1)
    assert refused() == ["jobs.d/a.toml: is larger than 16 MiB; split it into several files"]


def test_a_file_that_grows_while_it_is_read_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "FILE_BYTES_MAX", 1)
    with pytest.raises(source.Unusable, match="larger"):
        source.read_bytes(Path("/proc/self/smaps"))  # its size is said to be 0


def test_too_many_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "FILES_MAX", 3)
    for number in range(4):
        Path(f"jobs.d/{number}.toml").write_text(GOOD.replace("good", f"good{number}"))
    assert refused() == ["tidegate.toml: daemon.jobs[0]: more than 3 job files"]


def test_too_many_jobs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "JOBS_MAX", 3)
    Path("jobs.d/a.toml").write_text("".join(f'[jobs.j{number}]\nshell = "x"\n' for number in range(4)))
    assert refused() == ["jobs.d/a.toml: more than 3 jobs"]


def test_errors_are_listed_up_to_the_limit() -> None:
    Path("jobs.d/a.toml").write_text("".join(f"[jobs.j{number}]\n" for number in range(1500)))
    problems = refused_slowly()
    assert len(problems) == limits.ERRORS_MAX
    assert problems[0] == "jobs.d/a.toml:1: jobs.j0: needs command, shell or python: what to run"
    assert problems[-1] == "jobs.d/a.toml: too many errors: only 999 are listed"


def refused_slowly() -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(Path())
    return [str(problem) for problem in caught.value.problems]


def test_many_missing_names_among_many_jobs_stay_cheap() -> None:
    jobs = {f"job-{number:05d}": number for number in range(10_000)}
    from tidegate.model.job import Job

    made = {name: Job(name=name, command=("x",), after=(f"jab-{number:05d}",)) for name, number in jobs.items()}
    said: list[str] = []
    began = time.process_time()
    order.check_after(made, set(made), lambda _, message: said.append(message), lambda _, message: said.append(message))
    assert time.process_time() - began < 1.0
    assert len(said) == 10_000


@pytest.mark.parametrize(
    ("job", "count"),
    [
        ('shell = "x"\ntimezone = "Europe/Berl{number}"', 200),
        ('shell = "x"\nprority{number} = 3', 500),
        ('shell = "x"\noverlap = "skp{number}"', 500),
        ('shell = "x"\ncron = "0 0 31 2,4,6 *"\njitter = "{number}"', 500),
        ('shell = "x"\ncron = "{number} 0 30 2 *"', 500),
        ('shell = "x"\nafter = ["j{number}x"]', 500),
        ('shell = "x"\nafter = ["j{next}"]', 500),
    ],
)
def test_hundreds_of_errors_are_told_at_once(job: str, count: int) -> None:
    text = [f"[jobs.j{n}]\n{job.format(number=n, next=(n + 1) % count)}\n" for n in range(count)]
    Path("jobs.d/a.toml").write_text("".join(text))
    assert refused()


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_folder(path: Path) -> None:
    path.mkdir()


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)
        Path(path.name).rename(path)


def a_dangling_link(path: Path) -> None:
    path.symlink_to("nowhere")


def a_link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def a_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (a_fifo, "is not a plain file (a pipe, socket or device)"),
        (a_folder, "is a folder, expected a file"),
        (a_socket, "cannot be read: No such device or address"),
        (a_dangling_link, "cannot be read: No such file or directory"),
        (a_link_to_itself, "cannot be read: Too many levels of symbolic links"),
        (a_device, "is not a plain file (a pipe, socket or device)"),
    ],
)
def test_what_is_no_file_is_told_and_never_waited_for(make: Callable[[Path], None], message: str) -> None:
    make(Path("jobs.d/odd.toml"))
    Path("jobs.d/bad.toml").write_text("[jobs.x]\n")
    assert refused() == [
        "jobs.d/bad.toml:1: jobs.x: needs command, shell or python: what to run",
        f"jobs.d/odd.toml: {message}",
    ]


def test_a_file_without_read_permission_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("jobs.d/a.toml").write_text(GOOD)

    def denied(*_: object) -> int:  # root may read everything, and tests may run as root
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(source.os, "open", denied)
    with pytest.raises(source.Unusable, match="cannot be read: Permission denied"):
        source.read_bytes(Path("jobs.d/a.toml"))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a = 1\n\xff\xfe", "2: not UTF-8 text: byte 0xff"),
        ("a = 'ü'".encode("latin-1"), "1: not UTF-8 text: byte 0xfc"),
        ("[jobs.x]".encode("utf-16"), "1: not UTF-8 text: byte 0xff"),
        (b"\xed\xa0\x80 = 1", "1: not UTF-8 text: byte 0xed"),
    ],
)
def test_what_is_not_utf_8_is_told_with_its_line(data: bytes, message: str) -> None:
    Path("jobs.d/a.toml").write_bytes(data)
    assert refused() == [f"jobs.d/a.toml:{message}"]


def test_byte_order_mark_and_windows_line_ends_are_read() -> None:
    Path("jobs.d/a.toml").write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    plan = load(Path())
    assert plan.jobs["good"].source == "jobs.d/a.toml:1"


def test_an_empty_file_is_read() -> None:
    Path("jobs.d/a.toml").write_text("")
    Path("jobs.d/b.toml").write_text(GOOD)
    assert list(load(Path()).jobs) == ["good"]
