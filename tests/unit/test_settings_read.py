"""Reading a whole configuration: which files, which defaults, and all that is wrong with all of them at once."""

import gc
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tidegate.model.job import At, Boot, CatchUp, Cron, Every, Job, Leftovers, Output, Overlap, Retries
from tidegate.model.plan import DaemonSettings, HttpSettings, MetricsSettings, Plan, PoolSettings
from tidegate.settings import read
from tidegate.settings.read import SettingsError, load

NOBODY = 65534
PROMISED_MAIN = """
[daemon]
jobs = ["jobs.d/*.toml"]          # relative to this file
timezone = "Europe/Berlin"        # default: the system's
log_format = "auto"               # auto | journal | json | console
log_level = "info"
on_stop = "auto"
drain_timeout = "5m"

[pool]
min = 1                           # never fewer slots than this
max = "auto"

[http]
listen = "127.0.0.1:9810"

[metrics]
per_job_histograms = true         # off for very many jobs

[defaults]                        # any job key
timeout = "1h"
"""
PROMISED_JOBS = """
[jobs.backup]
description = "Dump the database"
command = ["pg_dump", "-Fc", "app", "-f", "/backup/app.dump"]
cron = "15 2 * * *"
timeout = "45m"
retries = { max = 3, delay = "30s" }

[jobs.report]
shell = "cd /srv/shop && make report"     # /bin/sh -c, only where a shell is asked for
every = "15m"

[jobs.once]
at = 2099-12-24T18:00:00+01:00
command = ["/usr/local/bin/lights"]

[jobs.reindex]
command = ["reindex"]
after = ["backup"]                        # fires each time one of these jobs succeeds
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(path: str, text: str) -> Path:
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def problems(path: str = ".") -> list[str]:
    with pytest.raises(SettingsError) as caught:
        load(Path(path))
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return [str(problem) for problem in caught.value.problems]


def job(lines: str) -> Job:
    return load(write("shop.toml", f"[jobs.x]\n{lines}\n")).jobs["x"]


def test_the_promised_files_load() -> None:
    write("tidegate.toml", PROMISED_MAIN)
    write("jobs.d/shop.toml", PROMISED_JOBS)
    common = {"timezone": "Europe/Berlin", "timeout_s": 3600.0}
    assert load(Path()) == Plan(
        daemon=DaemonSettings(timezone="Europe/Berlin"),
        pool=PoolSettings(),
        http=HttpSettings(),
        metrics=MetricsSettings(),
        jobs={
            "backup": Job(
                name="backup",
                description="Dump the database",
                command=("pg_dump", "-Fc", "app", "-f", "/backup/app.dump"),
                trigger=Cron("15 2 * * *"),
                retries=Retries(max=3, delay_s=30.0),
                source="jobs.d/shop.toml:2",
                timezone="Europe/Berlin",
                timeout_s=2700.0,
            ),
            "report": Job(
                name="report",
                shell="cd /srv/shop && make report",
                trigger=Every(900.0),
                source="jobs.d/shop.toml:9",
                **common,
            ),
            "once": Job(
                name="once",
                command=("/usr/local/bin/lights",),
                trigger=At(datetime(2099, 12, 24, 17, tzinfo=UTC)),
                source="jobs.d/shop.toml:13",
                **common,
            ),
            "reindex": Job(
                name="reindex", command=("reindex",), after=("backup",), source="jobs.d/shop.toml:17", **common
            ),
        },
        files=("tidegate.toml", "jobs.d/shop.toml"),
    )


def test_a_job_that_says_little_gets_the_promised_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "system_timezone", lambda: "Asia/Tokyo")
    assert job("shell = 'x'") == Job(name="x", shell="x", timezone="Asia/Tokyo", source="shop.toml:1")


def test_every_key_arrives(tmp_path: Path) -> None:
    made = job("""
    command = ["a", "b"]
    description = "d"
    cron = "0 5 * * *"
    timezone = "America/New_York"
    jitter = "1.5s"
    timeout = "1h30m"
    kill_grace = "500ms"
    leftovers = "leave"
    retries = { max = 2, delay = "1s", factor = 3, max_delay = "1m", jitter = 0, on_exit_codes = [75] }
    success_exit_codes = [0, 3]
    overlap = "queue"
    catch_up = "all"
    catch_up_window = "2d"
    start_deadline = "1w"
    priority = -100
    umask = "0077"
    nice = -20
    cwd = "~/work"
    env = { A = "1", _b2 = "" }
    env_file = "secrets/env"
    output = "journal"
    output_max = "1.5KiB"
    enabled = false
    """)
    assert made == Job(
        name="x",
        command=("a", "b"),
        description="d",
        trigger=Cron("0 5 * * *"),
        timezone="America/New_York",
        jitter_s=1.5,
        timeout_s=5400.0,
        kill_grace_s=0.5,
        leftovers=Leftovers.LEAVE,
        retries=Retries(max=2, delay_s=1.0, factor=3.0, max_delay_s=60.0, jitter=0.0, on_exit_codes=(75,)),
        success_exit_codes=(0, 3),
        overlap=Overlap.QUEUE,
        catch_up=CatchUp.ALL,
        catch_up_window_s=172800.0,
        start_deadline_s=604800.0,
        priority=-100,
        umask=0o077,
        nice=-20,
        cwd="~/work",
        env={"A": "1", "_b2": ""},
        env_file=str(tmp_path / "secrets/env"),
        output=Output.JOURNAL,
        output_max_bytes=1536,
        enabled=False,
        source="shop.toml:1",
    )


@pytest.mark.parametrize(
    ("text", "size"),
    [("100B", 100), ("64KiB", 65536), ("2kB", 2000), ("2KB", 2000), ("512MiB", 512 * 2**20), ("2GB", 2 * 10**9)],
)
def test_sizes(text: str, size: int) -> None:
    assert job(f'shell = "x"\noutput_max = "{text}"').output_max_bytes == size


def test_reboot_is_a_trigger_of_its_own() -> None:
    assert job('shell = "x"\ncron = "@reboot"').trigger == Boot()


def test_a_local_date_time_is_read_in_the_zone_of_the_job() -> None:
    at = job('shell = "x"\ntimezone = "Asia/Tokyo"\nat = 2099-07-01T12:00:00').trigger
    assert at == At(datetime(2099, 7, 1, 3, tzinfo=UTC))


def test_a_past_or_skipped_at_is_a_warning() -> None:
    plan = load(
        write(
            "shop.toml",
            "[jobs.x]\nshell='x'\nat = 2020-01-01T00:00:00Z\n"
            "[jobs.y]\nshell='x'\nat=2030-03-31T02:30:00\ntimezone='Europe/Berlin'\n",
        )
    )
    assert plan.warnings == (
        "shop.toml:3: jobs.x.at: 2020-01-01 00:00:00+00:00 is in the past; the job does not fire by itself,"
        " unless it was missed while no daemon ran (catch_up)",
        "shop.toml:6: jobs.y.at: 2030-03-31 02:30:00 does not exist in Europe/Berlin (the clocks go forward);"
        " fires at 2030-03-31 03:30:00",
    )


def test_all_that_was_missed_with_an_overlap_that_lets_one_run_is_a_warning() -> None:
    text = "[jobs.x]\nshell = 'x'\ncron = '@hourly'\ncatch_up = 'all'\n"
    (warning,) = load(write("shop.toml", text)).warnings
    assert warning.startswith("shop.toml:4: jobs.x.catch_up: makes up for all fires that were missed, at once")
    assert load(write("shop.toml", text + "overlap = 'queue'\n")).warnings == ()


def test_a_past_at_that_is_never_made_up_for_is_a_plain_warning() -> None:
    path = write("shop.toml", "[jobs.x]\nshell='x'\nat = 2020-01-01T00:00:00Z\ncatch_up = 'none'\n")
    assert load(path).warnings[0].endswith("is in the past; the job does not fire by itself")


def test_odd_but_legal_things_are_warnings() -> None:
    write(
        "tidegate.toml",
        """[daemon]
        timezone = "UTC"
        jobs = ["none.d/*.toml"]
        [jobs.a]
        shell = "x"
        every = "5s"
        jitter = "1m"
        [jobs.b]
        shell = "x"
        after = ["a", "a", "off"]
        retries = { delay = "1h" }
        [jobs.off]
        shell = "x"
        enabled = false
        cron = "@reboot"
        timezone = "UTC"
        """,
    )
    assert load(Path()).warnings == (
        'tidegate.toml:3: daemon.jobs[0]: no file matches "none.d/*.toml"',
        "tidegate.toml:7: jobs.a.jitter: is longer than every, which limits it: fires never overtake each other",
        'tidegate.toml:10: jobs.b.after: "off" is not enabled: it will not fire this job by itself',
        "tidegate.toml:10: jobs.b.after: names a job twice",
        "tidegate.toml:11: jobs.b.retries.delay: is longer than max_delay, which wins",
        "tidegate.toml:16: jobs.off.timezone: has no meaning for @reboot",
    )


def test_a_configuration_without_jobs_is_a_warning() -> None:
    write("tidegate.toml", "")
    assert load(Path()).warnings == ("tidegate.toml: defines no jobs",)


# --- defaults -----------------------------------------------------------------------------------


def test_defaults_fill_in_and_env_and_retries_are_merged() -> None:
    write(
        "tidegate.toml",
        """
        [defaults]
        overlap = "allow"
        env = { A = "1", B = "1" }
        retries = { max = 3, delay = "1s" }
        success_exit_codes = [0, 1]
        [jobs.x]
        shell = "x"
        env.B = "2"
        retries.delay = "5s"
        success_exit_codes = [2]
        [jobs.y]
        shell = "x"
        overlap = "skip"
        """,
    )
    jobs = load(Path()).jobs
    assert jobs["x"].env == {"A": "1", "B": "2"}
    assert jobs["x"].retries == Retries(max=3, delay_s=5.0)
    assert jobs["x"].success_exit_codes == (2,)
    assert (jobs["x"].overlap, jobs["y"].overlap) == (Overlap.ALLOW, Overlap.SKIP)
    assert jobs["y"].env == {"A": "1", "B": "1"}


def test_a_wrong_default_is_told_once_however_many_jobs_there_are() -> None:
    write("tidegate.toml", '[defaults]\ntimezone = "Mars"\numask = "9"\n')
    write("jobs.d/a.toml", "".join(f'[jobs.j{number}]\nshell = "x"\n' for number in range(50)))
    assert [problem.partition(": ")[0] for problem in problems()] == ["tidegate.toml:2", "tidegate.toml:3"]


def test_timezone_goes_from_daemon_to_defaults_to_job() -> None:
    write("tidegate.toml", '[daemon]\ntimezone="Asia/Tokyo"\n[jobs.x]\nshell="x"\n[jobs.y]\nshell="x"\ntimezone="UTC"')
    assert [job.timezone for job in load(Path()).jobs.values()] == ["Asia/Tokyo", "UTC"]
    write("tidegate.toml", '[daemon]\ntimezone="Asia/Tokyo"\n[defaults]\ntimezone="Asia/Seoul"\n[jobs.x]\nshell="x"\n')
    assert [job.timezone for job in load(Path()).jobs.values()] == ["Asia/Seoul"]


@pytest.mark.parametrize("name", ["", "local", "No/Where"])
def test_without_a_system_zone_utc_is_used_and_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(read, "system_timezone", lambda: name)
    plan = load(write("tidegate.toml", '[jobs.x]\nshell = "x"\n'))
    assert plan.daemon.timezone == plan.jobs["x"].timezone == "UTC"
    assert plan.warnings == (
        f"tidegate.toml: daemon: the system's time zone ({name or 'unset'}) has no IANA name: UTC is used;"
        " set timezone",
    )


def test_the_system_zone_is_an_iana_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import tzlocal.unix

    monkeypatch.setattr(tzlocal.unix, "_cache_tz_name", None)
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    assert read.system_timezone() == "Asia/Tokyo"
    monkeypatch.setattr(tzlocal.unix, "_cache_tz_name", None)


# --- the daemon's tables ------------------------------------------------------------------------


def test_daemon_tables_arrive() -> None:
    plan = load(
        write(
            "tidegate.toml",
            """
            [daemon]
            timezone = "UTC"
            log_format = "json"
            log_level = "debug"
            on_stop = "leave"
            drain_timeout = "1m"
            [pool]
            min = 2
            max = 3
            [http]
            listen = "[::1]:80"
            allowed_hosts = ["cron.example.org"]
            [metrics]
            per_job_histograms = false
            """,
        )
    )
    assert plan.daemon == DaemonSettings(
        timezone="UTC", log_format="json", log_level="debug", on_stop="leave", drain_timeout_s=60.0
    )
    assert plan.pool == PoolSettings(min=2, max=3)
    assert plan.http == HttpSettings(host="::1", port=80, allowed_hosts=("cron.example.org",))
    assert plan.metrics == MetricsSettings(per_job_histograms=False)


@pytest.mark.parametrize(
    ("listen", "host", "port"), [("", None, 9810), ("localhost:0", "localhost", 0), ("0.0.0.0:65535", "0.0.0.0", 65535)]
)
def test_listen(listen: str, host: str | None, port: int) -> None:
    plan = load(write("tidegate.toml", f'[http]\nlisten = "{listen}"\n'))
    assert (plan.http.host, plan.http.port) == (host, port)


# --- which files --------------------------------------------------------------------------------


def test_a_folder_without_a_main_file_is_an_error() -> None:
    assert problems() == ["tidegate.toml: cannot be read: No such file or directory"]


def test_a_path_that_does_not_exist_is_an_error() -> None:
    assert problems("/nowhere/tidegate.toml") == ["/nowhere/tidegate.toml: cannot be read: No such file or directory"]


def test_a_jobs_file_is_read_alone() -> None:
    write("conf/jobs.d/shop.toml", '[jobs.x]\nshell = "x"\n')
    write("conf/jobs.d/jobs.d/other.toml", "not toml")
    assert list(load(Path("conf/jobs.d/shop.toml")).jobs) == ["x"]


def test_a_main_file_that_holds_only_jobs_still_reads_jobs_d() -> None:
    write("tidegate.toml", '[jobs.x]\nshell = "x"\n')
    write("jobs.d/a.toml", '[jobs.y]\nshell = "x"\n')
    assert list(load(Path("tidegate.toml")).jobs) == list(load(Path()).jobs) == ["x", "y"]


def test_files_are_sorted_and_each_is_read_once(tmp_path: Path) -> None:
    write(
        "tidegate.toml",
        f'[daemon]\njobs = ["*.toml", "d/*.toml", "d/a.toml", "{tmp_path}/abs/*.toml", "deep/**/*.toml"]',
    )
    for path in ("d/b", "d/a", "abs/c", "deep/x/y/z"):
        write(f"{path}.toml", f'[jobs.{path[-1]}]\nshell = "x"\n')
    write("d/.hidden.toml", "not toml")
    write("d/a.toml~", "not toml")
    Path("d/link.toml").symlink_to("a.toml")
    plan = load(Path())
    assert plan.files == ("tidegate.toml", "d/a.toml", "d/b.toml", "abs/c.toml", "deep/x/y/z.toml")
    assert list(plan.jobs) == ["a", "b", "c", "z"]


@pytest.mark.parametrize("pattern", ["x" * 256 + "/*.toml", "ä" * 128 + ".toml"])
def test_patterns_longer_than_file_names_are_errors(pattern: str) -> None:
    write("tidegate.toml", f'[daemon]\njobs = ["{pattern}"]\n')
    assert problems() == ["tidegate.toml:2: daemon.jobs[0]: has a part longer than the 255 bytes of a file name"]


def test_a_path_that_cannot_be_is_an_error() -> None:
    assert problems("x" * 300) == [f"{'x' * 300}: cannot be read: File name too long"]
    assert problems("a\0b") == ["a\\x00b: cannot be read: embedded null byte"]


def test_a_file_name_steers_no_terminal() -> None:
    write("tidegate.toml", "")
    write("jobs.d/\x1b[2J\n.toml", "[jobs.x]\n")
    assert problems() == ["jobs.d/\\x1b[2J\\n.toml:1: jobs.x: needs command, shell or python: what to run"]


def test_patterns_that_python_refuses_are_errors() -> None:
    write("tidegate.toml", '[daemon]\njobs = ["a\\u0000*"]\n')
    assert problems() == ["tidegate.toml:2: daemon.jobs[0]: must be a path or a pattern"]


@pytest.mark.parametrize("pattern", ["**", "d/**", "a**/*.toml", "**/**.toml"])
def test_two_stars_stand_alone_and_for_folders_only(pattern: str) -> None:
    write("tidegate.toml", f'[daemon]\njobs = ["{pattern}"]\n')
    assert problems() == [
        'tidegate.toml:2: daemon.jobs[0]: "**" stands for folders: alone between slashes, '
        "and a name such as *.toml behind it"
    ]


def test_a_pattern_of_very_many_parts_is_an_error() -> None:
    write("tidegate.toml", f'[daemon]\njobs = ["{"a/" * 5000}*.toml"]\n')
    assert problems() == ["tidegate.toml:2: daemon.jobs[0]: leads through more than 100 folders"]


def test_a_folder_that_is_not_there_holds_no_jobs() -> None:
    write(
        "tidegate.toml", '[daemon]\njobs = ["jobs.d/*.toml", "none/*/x.toml", "none/**/x.toml"]\n[jobs.x]\nshell = "x"'
    )
    Path("jobs.d").symlink_to("nowhere")
    plan = load(Path())
    assert (list(plan.jobs), len(plan.warnings)) == (["x"], 3)
    write("tidegate.toml", '[jobs.x]\nshell = "x"')
    assert load(Path()).warnings == ()


def test_what_is_no_folder_and_links_in_a_circle_are_passed_over_by_a_wildcard() -> None:
    write("tidegate.toml", '[daemon]\njobs = ["d/*/x.toml", "d/**/y.toml"]\n')
    write("d/a/x.toml", '[jobs.x]\nshell = "x"')
    write("d/a/b/y.toml", '[jobs.y]\nshell = "x"')
    write("d/file", "")
    Path("d/circle").symlink_to("circle")
    Path("d/a/up").symlink_to("..")
    assert list(load(Path()).jobs) == ["x", "y"]


def test_a_file_where_a_folder_of_jobs_should_be_is_an_error() -> None:
    write("tidegate.toml", "")
    write("jobs.d", "")
    assert problems() == ["jobs.d: cannot be searched for job files: Not a directory"]


@pytest.fixture
def as_nobody(tmp_path: Path) -> Iterator[None]:
    """Root may enter every folder: be somebody else."""
    tmp_path.chmod(0o755)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    yield
    if root:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("pattern", "closed", "mode"),
    [
        ("jobs.d/*.toml", "jobs.d", 0),
        ("jobs.d/*.toml", "jobs.d", 0o311),
        ("jobs.d/in/*.toml", "jobs.d", 0o644),
        ("*/in/*.toml", "jobs.d", 0o644),
        ("**/*.toml", "jobs.d/in", 0),
        ("jobs.d/*/a.toml", "jobs.d/in", 0o644),
    ],
)
def test_a_folder_that_cannot_be_searched_is_an_error_and_not_empty(
    pattern: str, closed: str, mode: int, request: pytest.FixtureRequest
) -> None:
    write("tidegate.toml", f'[daemon]\njobs = ["{pattern}"]\n')
    write("jobs.d/in/a.toml", '[jobs.x]\nshell = "x"\n')
    write("jobs.d/a.toml", '[jobs.y]\nshell = "x"\n')
    assert load(Path()).jobs
    Path(closed).chmod(mode)
    request.getfixturevalue("as_nobody")
    found = [problem for problem in problems() if "cannot be searched" in problem]
    where = f"{closed}/in" if "in/*.toml" in pattern else closed
    assert found == [
        f"{where}: cannot be searched for job files: Permission denied; the daemon's user must be able to read and "
        "enter it, or [daemon] jobs must not lead there"
    ]


def test_a_file_in_a_folder_that_cannot_be_entered_is_not_called_missing(request: pytest.FixtureRequest) -> None:
    write("tidegate.toml", '[daemon]\njobs = ["jobs.d/a.toml"]\n')
    write("jobs.d/a.toml", '[jobs.y]\nshell = "x"\n')
    Path("jobs.d").chmod(0)
    request.getfixturevalue("as_nobody")
    assert problems() == ["jobs.d/a.toml: cannot be read: Permission denied"]


def test_paths_are_shown_relative_where_that_is_shorter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main = write("conf/tidegate.toml", "[jobs.x]\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert problems(str(main.absolute()))[0].startswith("conf/tidegate.toml:1: ")
    assert problems("./conf/../conf")[0].startswith("conf/tidegate.toml:1: ")
    monkeypatch.chdir(elsewhere)
    assert problems("../conf")[0].startswith("../conf/tidegate.toml:1: ")
    assert problems(str(tmp_path / "conf"))[0].startswith(f"{tmp_path}/conf/tidegate.toml:1: ")
    monkeypatch.chdir("/")
    assert problems(str(tmp_path / "conf"))[0].startswith(f"{tmp_path}/conf/tidegate.toml:1: ")


def test_an_env_file_is_beneath_the_folder_of_its_file(tmp_path: Path) -> None:
    write("tidegate.toml", '[defaults]\nenv_file = "common.env"\n')
    write(
        "jobs.d/a.toml",
        '[jobs.x]\nshell="x"\n[jobs.y]\nshell="x"\nenv_file="y.env"\n[jobs.z]\nshell="x"\nenv_file="/z"',
    )
    assert [job.env_file for job in load(Path()).jobs.values()] == [
        str(tmp_path / "common.env"),
        str(tmp_path / "jobs.d/y.env"),
        "/z",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\n\n[jobs.x]\nshell='x'", 3),
        ("[ jobs . 'x' ]\nshell='x'", 1),
        ('[jobs]\n[jobs."x"]\nshell="x"', 2),
        ("[jobs]\nx = { shell = 'x' }", 2),
        ("[jobs]\nx.env.A = 'b'\nx.shell = 'x'", 2),
        ("jobs.x.shell = 'x'", 1),
        ("[jobs.x.env]\nA = 'b'\n[jobs.x]\nshell = 'x'", 3),
        ("[jobs.y]\nshell = '''\n[jobs.z]\n'''\n[jobs.x]\nshell='x'", 5),
    ],
)
def test_source_is_where_the_job_begins(text: str, line: int) -> None:
    assert load(write("shop.toml", text)).jobs["x"].source == f"shop.toml:{line}"


# --- all errors at once -------------------------------------------------------------------------


def test_all_errors_of_all_files_come_at_once_sorted() -> None:
    write("tidegate.toml", '[daemon]\nlog_level = "loud"\n[pool]\nmin = 0\n[jobs.m]\ncron = "x"\n')
    write(
        "jobs.d/b.toml", '[jobs.b]\ncommand = ["x"]\ntimeout = 5\nretries = { max = -1, dely = "5s" }\nafter = ["aa"]\n'
    )
    write("jobs.d/a.toml", '[jobs.a\ncommand = ["x"]\n')
    write("jobs.d/c.toml", '[jobs.b]\nshell = "x"\n[jobs.c]\nshell = "x"\ncron = "* * *"\nenv = { "a b" = "x" }\n')
    found = problems()
    assert [problem.rpartition(": ")[0].split(": ")[:2] for problem in found] == [
        ["jobs.d/a.toml:1", "not TOML"],
        ["jobs.d/b.toml:3", "jobs.b.timeout"],
        ["jobs.d/b.toml:4", "jobs.b.retries.dely"],
        ["jobs.d/b.toml:4", "jobs.b.retries.max"],
        ["jobs.d/b.toml:5", "jobs.b.after"],
        ["jobs.d/c.toml:1", "jobs.b"],
        ["jobs.d/c.toml:5", "jobs.c.cron"],
        ["jobs.d/c.toml:6", 'jobs.c.env."a b"'],
        ["tidegate.toml:2", "daemon.log_level"],
        ["tidegate.toml:4", "pool.min"],
        ["tidegate.toml:5", "jobs.m"],
        ["tidegate.toml:6", "jobs.m.cron"],
    ]


def test_a_job_defined_twice_names_both_places() -> None:
    write("tidegate.toml", '\n[jobs.x]\nshell = "a"\n')
    write("jobs.d/a.toml", '[jobs.y]\nshell = "y"\n[jobs.x]\nshell = "b"\n')
    assert problems() == ["jobs.d/a.toml:3: jobs.x: is also defined at tidegate.toml:2"]


def test_fault_35_a_cycle_is_named_whole() -> None:
    jobs = "".join(f'[jobs.{name}]\nshell="x"\nafter=["{after}"]\n' for name, after in ("ac", "ba", "cb", "da"))
    assert problems(str(write("shop.toml", jobs))) == ["shop.toml:3: jobs.a.after: a cycle: a → b → c → a"]


def test_fault_35_every_cycle_is_found() -> None:
    pairs = (("a", "b"), ("b", "a"), ("c", "d"), ("d", "c"))
    jobs = "".join(f'[jobs.{name}]\nshell="x"\nafter=["{after}"]\n' for name, after in pairs)
    found = problems(str(write("shop.toml", jobs)))
    assert len(found) == 2
    assert {frozenset(problem.rpartition("cycle: ")[2].split(" → ")) for problem in found} == {
        frozenset("ab"),
        frozenset("cd"),
    }


def test_fault_35_a_missing_name_is_told_with_a_near_one() -> None:
    write("shop.toml", '[jobs.backup]\nshell="x"\n[jobs.y]\nshell="x"\nafter=["bakcup"]\n')
    assert problems("shop.toml") == ['shop.toml:5: jobs.y.after: no job named "bakcup"; did you mean "backup"?']


def test_a_job_that_is_wrong_itself_is_not_missing_for_others() -> None:
    write("shop.toml", '[jobs]\nx = 5\n[jobs.y]\nshell="x"\nafter=["x"]\n')
    assert problems("shop.toml") == ["shop.toml:2: jobs.x: must be a table, got 5"]


def test_fault_31_a_half_written_file_hides_no_error_of_the_others() -> None:
    write("tidegate.toml", "")
    whole = '[jobs.x]\ncommand = ["a", "b"]\nenv = { A = "b" }\n'
    write("jobs.d/b.toml", "[jobs.z]\n")
    for length in range(1, len(whole)):
        write("jobs.d/a.toml", whole[:length])
        assert "jobs.d/b.toml:1: jobs.z: needs command, shell or python: what to run" in problems()


def test_daemon_tables_in_a_jobs_file_are_sent_home() -> None:
    write("tidegate.toml", "")
    write("jobs.d/a.toml", "[defaults]\ntimeout = '1h'\n[hooks.x]\n")
    assert problems() == [
        "jobs.d/a.toml:1: defaults: belongs in tidegate.toml, not in a jobs file",
        "jobs.d/a.toml:3: hooks: belongs in tidegate.toml, not in a jobs file",
    ]


# --- cost ---------------------------------------------------------------------------------------


def test_equal_values_are_shared_between_jobs() -> None:
    lines = 'command = ["a", "bb cc"]\ncron = "* * * * *"\nretries = {max = 1}\nenv = { A = "b c" }\ntimeout = "7m"\n'
    one, two = load(write("shop.toml", f"[jobs.x]\n{lines}[jobs.y]\n{lines}")).jobs.values()
    for field in ("command", "trigger", "retries", "env", "timeout_s", "timezone", "success_exit_codes"):
        assert getattr(one, field) is getattr(two, field), field


def test_the_garbage_collector_rests_while_jobs_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []
    plan = read.Reading.plan

    def looked_at(reading: read.Reading, path: Path) -> Plan:
        seen.append(gc.isenabled())
        return plan(reading, path)

    monkeypatch.setattr(read.Reading, "plan", looked_at)
    job("shell = 'x'")
    assert seen == [False]


def test_the_garbage_collector_is_left_as_it_was() -> None:
    write("shop.toml", "x")
    assert gc.isenabled()
    problems("shop.toml")
    assert gc.isenabled()
    gc.disable()
    try:
        problems("shop.toml")
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_no_descriptor_is_left_open() -> None:
    write("tidegate.toml", "")
    write("jobs.d/a.toml", "[jobs.x]\n")
    Path("jobs.d/b.toml").mkdir()
    os.mkfifo("jobs.d/c.toml")
    before = len(list(Path("/proc/self/fd").iterdir()))
    problems()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_an_env_file_that_may_be_missing_keeps_its_dash_and_is_found_beside_its_file(tmp_path: Path) -> None:
    (tmp_path / "tidegate.toml").write_text('[jobs.a]\ncommand = ["x"]\nenv_file = "-x.env"\n')
    assert load(tmp_path / "tidegate.toml").jobs["a"].env_file == f"-{tmp_path}/x.env"
