"""Parts of the commands by themselves: output in pieces, tables, what top draws, moments in the past."""

import os
from datetime import UTC, datetime, timedelta
from io import StringIO
from pathlib import Path

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from rich.console import Console

from tidegate.cli import asking, output
from tidegate.cli.board import board
from tidegate.cli.client import Pool
from tidegate.cli.logs import printable
from tidegate.cli.options import parse_past
from tidegate.cli.output import Piece, _split, file_pieces, opened
from tidegate.cli.runs import columns
from tidegate.cli.states import percentile
from tidegate.cli.why import PHRASES
from tidegate.history.fold import NO_DECISION
from tidegate.history.store import SET_ASIDE
from tidegate.model.command import Fact
from tidegate.model.run import Cause, Run, State
from tidegate.model.view import PoolView, WaitingView, of_run, running_view

NOW = datetime(2026, 3, 27, 12, 0, tzinfo=UTC)
BLOCK = output.BLOCK_BYTES


def test_why_has_words_for_whatever_is_on_record() -> None:
    assert {*Fact, SET_ASIDE} - NO_DECISION <= PHRASES.keys()


# --- moments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2h", NOW - timedelta(hours=2)),
        ("1d12h", NOW - timedelta(hours=36)),
        ("0s", NOW),
        ("2026-03-01", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01T02:00+01:00", datetime(2026, 3, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_moment_is_iso_or_how_long_ago(text: str, expected: datetime) -> None:
    assert parse_past(text, UTC, NOW, "'--since'") == expected


@pytest.mark.parametrize("text", ["", "2", "yesterday", "2h1d", "1e9d", "99999999d", "0001-01-01", "2026-02-30"])
def test_anything_else_is_bad_usage(text: str) -> None:
    with pytest.raises(click.BadParameter):
        parse_past(text, UTC, NOW, "'--since'")


# --- output -------------------------------------------------------------------------------------


def a_file(folder: Path, *parts: bytes | int) -> Path:
    """Bytes, and holes of so many bytes."""
    path = folder / "file"
    with path.open("wb") as file:
        for part in parts:
            if isinstance(part, int):
                file.seek(part, os.SEEK_CUR)
                file.truncate(file.tell())
            else:
                file.write(part)
    return path


def pieces_of(path: Path, offset: int = 0) -> list[Piece]:
    return list(file_pieces(os.open(path, os.O_RDONLY), offset) or ())


def test_holes_of_a_file_are_told_apart_from_what_was_written(tmp_path: Path) -> None:
    hole = 64 * BLOCK
    pieces = pieces_of(a_file(tmp_path, b"a" * BLOCK, hole, b"z" * 10))
    assert pieces == [
        Piece(b"a" * BLOCK, BLOCK),
        Piece(b"", BLOCK + hole, hole),
        Piece(b"z" * 10, BLOCK + hole + 10),
    ]


def test_a_hole_at_the_end_is_one_too(tmp_path: Path) -> None:
    assert pieces_of(a_file(tmp_path, b"a" * BLOCK, 8 * BLOCK))[-1] == Piece(b"", 9 * BLOCK, 8 * BLOCK)


def test_nuls_that_were_written_are_no_hole(tmp_path: Path) -> None:
    assert pieces_of(a_file(tmp_path, bytes(4 * BLOCK))) == [Piece(bytes(4 * BLOCK), 4 * BLOCK)]


def test_reading_goes_on_from_an_offset(tmp_path: Path) -> None:
    assert pieces_of(a_file(tmp_path, b"0123456789"), 4) == [Piece(b"456789", 10)]
    assert pieces_of(a_file(tmp_path, b"0123456789"), 10) == []


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 3)), max_size=8), st.binary(max_size=10))
def test_splitting_loses_no_byte(blocks: list[tuple[bool, int]], tail: bytes) -> None:
    data = b"".join((b"x" if written else b"\0") * BLOCK * count for written, count in blocks) + tail
    pieces = list(_split(data, 1000)) if data else []
    assert b"".join(piece.data or bytes(piece.dropped_bytes) for piece in pieces) == data
    assert [piece.end for piece in pieces] == sorted({piece.end for piece in pieces})
    assert not pieces or pieces[-1].end == 1000 + len(data)


def test_neither_a_link_nor_a_fifo_is_waited_for(tmp_path: Path) -> None:
    folder = tmp_path / "output" / "job"
    folder.mkdir(parents=True)
    run = of_run(Run(run_id="r", job="job", scheduled_at=NOW, queued_at=NOW))
    assert opened(tmp_path, run) is None
    (folder / "r.log").symlink_to("/etc/passwd")
    assert opened(tmp_path, run) is None


def test_only_newlines_and_tabs_reach_a_terminal_as_they_are() -> None:
    assert printable("a\tb\nc\x1b[2J\r\x07\u202e\x00") == "a\tb\nc\\x1b[2J\\r\\x07\\u202e\\x00"


@given(st.text())
def test_whatever_is_printed_steers_no_terminal(text: str) -> None:
    assert not set(printable(text)) & set(map(chr, [*range(9), *range(11, 32), *range(127, 160)]))


# --- tables -------------------------------------------------------------------------------------


def test_columns_are_as_wide_as_they_must_and_a_long_cell_pushes_its_own_line_only() -> None:
    lines = columns([("A", "B"), ("1", "x"), ("long" * 12, "y"), ("2", "z")])
    assert lines[0].index("B") == lines[1].index("x") == lines[3].index("z") == 42
    assert lines[2] == "long" * 12 + "  y"


def test_percentiles_are_by_nearest_rank() -> None:
    assert [percentile([3.0, 1.0, 2.0], share) for share in (0.01, 0.5, 0.99)] == [1.0, 2.0, 3.0]
    assert percentile([float(n) for n in range(1, 101)], 0.99) == 99.0


# --- what top draws -----------------------------------------------------------------------------


def crowded(running: int, waiting: int) -> Pool:
    def run(number: int, state: State) -> Run:
        begun = NOW if state is State.RUNNING else None
        return Run(
            run_id=f"r{number}", job=f"job-{number}", cause=Cause.SCHEDULE, scheduled_at=NOW, queued_at=NOW,
            state=state, started_at=begun,
        )  # fmt: skip

    return Pool(
        pool=PoolView(limit=4, running=running, queued=waiting, retrying=0, held=""),
        running=tuple(running_view(run(number, State.RUNNING), None, False) for number in range(running)),
        waiting=tuple(
            WaitingView(run=of_run(run(1000 + number, State.QUEUED)), gate="pool", reason="all slots are in use")
            for number in range(waiting)
        ),
    )


def test_what_runs_is_drawn_with_its_cpu_its_memory_and_whether_it_is_held_still() -> None:
    answer = crowded(3, 0)
    runs = answer.running
    held = replace(runs[1], cpu_s=12.3, memory_bytes=38 << 20, frozen=True, pid=48211, attempt=2)
    lines = drawn(replace(answer, running=(replace(runs[0], cpu_s=0.25, memory_bytes=3 << 30), held, runs[2])), None)
    head = next(line for line in lines if line.startswith("RUNNING"))
    assert head.split() == ["RUNNING", "RUN", "FOR", "CPU", "MEMORY", "PID", "STATE"]
    rows = {line.split()[1]: line for line in lines if line.startswith("job-")}
    assert rows["r0"].split()[2:] == ["0", "ms", "0.25", "s", "3.0", "GiB", "-", "running"]
    assert rows["r1"].endswith("38 MiB   48211  frozen: memory is short, attempt 2") and " 12 s " in rows["r1"]
    assert rows["r2"].split()[-4:] == ["-", "-", "-", "running"]


def drawn(answer: Pool, height: int | None, trouble: str = "") -> list[str]:
    console = Console(file=StringIO(), width=100, color_system=None)
    console.print(board(answer, NOW, UTC, height, trouble))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue().splitlines()


@pytest.mark.parametrize("height", [24, 40, 100])
@pytest.mark.parametrize(("running", "waiting"), [(0, 0), (3, 2), (500, 0), (0, 500), (500, 500)])
def test_the_board_fits_the_terminal_and_says_what_it_leaves_out(height: int, running: int, waiting: int) -> None:
    lines = drawn(crowded(running, waiting), height)
    assert len(lines) <= height
    shown = sum(line.startswith("job-") for line in lines)
    left_out = sum(int(line.split()[1]) for line in lines if line.startswith("and "))
    assert shown + left_out == running + waiting
    assert shown >= min(running + waiting, height - 15)


def test_without_a_height_everything_is_drawn() -> None:
    assert sum(line.startswith("job-") for line in drawn(crowded(100, 200), None)) == 300


def test_trouble_stands_on_top() -> None:
    assert drawn(crowded(0, 0), 24, "no daemon answers\x1b")[1] == "no daemon answers\\x1b"


def test_brackets_in_names_are_no_markup() -> None:
    answer = crowded(0, 1)
    waiting = answer.waiting[0]
    odd = WaitingView(run=waiting.run, gate="pool", reason="[bold]held[/bold]")
    assert any("[bold]held[/bold]" in line for line in drawn(Pool(pool=answer.pool, waiting=(odd,)), None))


# --- which daemon -------------------------------------------------------------------------------


def test_a_user_without_a_daemon_reaches_that_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, system = tmp_path / "own", tmp_path / "system.sock"
    monkeypatch.setattr(asking, "SYSTEM_SOCKET", system)
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(own))
    mine = own / "tidegate" / "tidegate.sock"
    assert asking.control_socket() == mine  # neither is there: one's own is named
    system.touch()
    assert asking.control_socket() == system
    mine.parent.mkdir(parents=True)
    mine.touch()
    assert asking.control_socket() == mine
    mine.unlink()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(own / "tidegate"))
    assert asking.control_socket() == mine  # whoever names a folder means that one
