"""Whom to tell, what to share, when not to, whose it is: the keys, as they arrive and as they are refused."""

import os
import pwd
from datetime import date
from pathlib import Path

import pytest

from tidegate.model.job import During, HookLists, Job, Limits, OnInterrupted, Ping, RunAs, Window
from tidegate.model.plan import Calendar, ControlSettings, HistorySettings, Hook, HttpSettings, Mail, Plan
from tidegate.settings import child, identity
from tidegate.settings.identity import Identity, Users
from tidegate.settings.ownership import Ownership
from tidegate.settings.read import SettingsError, load
from tidegate.settings.secret import check_secret, read_secret

ROOT = Identity(0, 0)
MAIN = """[daemon]
timezone = "Europe/Berlin"
on_stop = "leave"
[http]
token_file = "token"
[control]
operators = "daemon"
[history]
keep = "90d"
keep_runs = 5
keep_bytes = "1MiB"
durability = "normal"
on_corruption = "stop"
reserve = "0B"
[resources]
database = 2
gpu = 1
[calendars.office]
cron = "* 9-17 * * mon-fri"
[calendars.freeze]
dates = ["2099-12-25", "2099-12-27/2099-12-31"]
timezone = "UTC"
[hooks.ops]
timeout = "5s"
retries = 0
[hooks.ops.mail]
to = ["ops@example.org", "root"]
from = "cron@example.org"
smtp = "mail.example.org:587"
starttls = true
user = "cron"
password_file = "password"
[hooks.chat]
webhook = "https://chat.example.org/x?y=1"
headers = { X-Key = "k" }
[hooks.page]
command = ["./page", "--now"]
"""
JOB = """[jobs.x]
shell = "x"
every = "1h"
uses = { database = 2 }
only_during = ["office"]
not_during = [{ calendar = "freeze", action = "defer" }]
on_failure = ["ops", "chat"]
on_success = ["chat"]
on_retry = ["chat"]
on_skip = ["chat"]
on_recovery = ["chat"]
on_overrun = ["page"]
on_absence = ["ops"]
expected = "5m"
on_interrupted = "rerun"
ping = { start = "https://p.example.org/1", success = "http://p.example.org/2", failure = "https://p.example.org/3" }
user = "daemon"
group = "daemon"
groups = ["daemon"]
memory_max = "512MiB"
cpu_max = 1.5
pids_max = 10
io_weight = 50
oom_score_adj = 500
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    # Whose the files are is judged in test_settings_ownership.py; here they belong to whoever runs the tests.
    monkeypatch.setattr(Ownership, "wrong", lambda *_: "")
    for name in ("token", "password"):
        Path(name).write_text("s3cret\n")
        Path(name).chmod(0o600)


def read(text: str, who: Identity = ROOT) -> Plan:
    Path("tidegate.toml").write_text(text)
    return load(Path("tidegate.toml"), who)


def problems(text: str, who: Identity = ROOT) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        read(text, who)
    return [str(problem).removeprefix("tidegate.toml:") for problem in caught.value.problems]


def test_every_table_arrives(tmp_path: Path) -> None:
    plan = read(MAIN)
    assert plan.daemon.on_stop == "leave"
    assert plan.http == HttpSettings(token_file=str(tmp_path / "token"))
    assert plan.control == ControlSettings(operators="daemon")
    assert plan.history == HistorySettings(
        keep_s=90 * 86400.0,
        keep_runs=5,
        keep_bytes=2**20,
        durability="normal",
        on_corruption="stop",
        reserve_bytes=0,
    )
    assert plan.resources == {"database": 2, "gpu": 1}
    assert plan.calendars == {
        "office": Calendar(cron="* 9-17 * * mon-fri", timezone="Europe/Berlin"),
        "freeze": Calendar(
            dates=((date(2099, 12, 25), date(2099, 12, 25)), (date(2099, 12, 27), date(2099, 12, 31))), timezone="UTC"
        ),
    }
    assert plan.hooks == {
        "ops": Hook(
            name="ops",
            mail=Mail(
                to=("ops@example.org", "root"),
                smtp="mail.example.org:587",
                sender="cron@example.org",
                starttls=True,
                user="cron",
                password_file=str(tmp_path / "password"),
            ),
            timeout_s=5.0,
            retries=0,
        ),
        "chat": Hook(name="chat", webhook="https://chat.example.org/x?y=1", headers={"X-Key": "k"}),
        "page": Hook(name="page", command=(str(tmp_path / "page"), "--now")),
    }
    assert plan.warnings == ("tidegate.toml: defines no jobs",)


def test_every_key_of_a_job_arrives() -> None:
    assert read(MAIN + JOB).jobs["x"] == Job(
        name="x",
        shell="x",
        trigger=read(MAIN + JOB).jobs["x"].trigger,
        timezone="Europe/Berlin",
        uses={"database": 2},
        only_during=(Window("office"),),
        not_during=(Window("freeze", During.DEFER),),
        hooks=HookLists(
            failure=("ops", "chat"),
            success=("chat",),
            retry=("chat",),
            skip=("chat",),
            recovery=("chat",),
            overrun=("page",),
            absence=("ops",),
        ),
        expected_s=300.0,
        on_interrupted=OnInterrupted.RERUN,
        ping=Ping("https://p.example.org/1", "http://p.example.org/2", "https://p.example.org/3"),
        run_as=RunAs("daemon", "daemon", ("daemon",)),
        limits=Limits(2**29, 1.5, 10, 50),
        oom_score_adj=500,
        source=read(MAIN + JOB).jobs["x"].source,
    )


def test_defaults_hold_them_for_all_jobs_and_each_job_may_say_otherwise() -> None:
    jobs = read(
        MAIN
        + """[defaults]
        uses = { gpu = 1 }
        not_during = ["freeze"]
        on_failure = ["ops"]
        on_absence = ["ops"]
        expected = "1m"
        on_interrupted = "rerun"
        user = "daemon"
        memory_max = "1GiB"
        oom_score_adj = 1
        [jobs.a]
        shell = "x"
        every = "1h"
        [jobs.b]
        shell = "x"
        uses = {}
        not_during = []
        on_failure = []
        on_success = ["chat"]
        group = "daemon"
        pids_max = 5
        """
    ).jobs
    a, b = jobs["a"], jobs["b"]
    assert (a.uses, a.not_during, a.expected_s, a.oom_score_adj) == ({"gpu": 1}, (Window("freeze"),), 60.0, 1)
    assert a.hooks == HookLists(failure=("ops",), absence=("ops",))
    assert (b.uses, b.not_during) == ({}, ())
    assert b.hooks == HookLists(success=("chat",)), "a job without a schedule is never overdue"
    assert b.run_as == RunAs("daemon", "daemon")
    assert b.limits == Limits(memory_bytes=2**30, pids=5)


def test_what_is_not_written_is_shared_by_all_jobs_and_what_is_equal_too() -> None:
    written = 'shell = "x"\nuses = { gpu = 1 }\non_failure = ["ops"]\nuser = "MYSELF"\nmemory_max = "1GiB"\n'
    written = written.replace("MYSELF", pwd.getpwuid(os.geteuid()).pw_name)
    text = MAIN + "".join(
        f"[jobs.{name}]\n{lines}"
        for name, lines in (("a", 'shell="x"\n'), ("b", 'shell="x"\n'), ("c", written), ("d", written))
    )
    read(text)
    for plan in (load(Path("tidegate.toml"), ROOT), child.decode(child.encode(Path("tidegate.toml")))):
        for field in ("uses", "only_during", "hooks", "ping", "run_as", "limits"):
            assert getattr(plan.jobs["a"], field) is getattr(plan.jobs["b"], field), field
            assert getattr(plan.jobs["c"], field) is getattr(plan.jobs["d"], field), field


def test_they_travel_between_processes() -> None:
    plan = read(MAIN + JOB.replace('user = "daemon"\ngroup = "daemon"\ngroups = ["daemon"]\n', ""))
    assert child.decode(child.encode(Path("tidegate.toml"))) == plan


URL = 'must be a URL such as "https://example.org/x", got'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[http]\ntoken_file = "none"', "2: http.token_file: cannot be read: No such file or directory: "),
        ('[control]\noperators = "nobodyhere"', '2: control.operators: no group named "nobodyhere" on this machine'),
        (
            '[control]\noperators = "daemno"',
            '2: control.operators: no group named "daemno" on this machine; did you mean "daemon"?',
        ),
        ('[control]\nopertors = "x"', '2: control.opertors: unknown key in [control]; did you mean "operators"?'),
        ('[history]\nkeep = "1s"', '2: history.keep: must be at least "1m", got "1s"'),
        ('[history]\nkeep_bytes = "1kB"', '2: history.keep_bytes: must be at least "1MiB", got "1kB"'),
        ("[history]\nkeep_runs = 0", "2: history.keep_runs: must be a whole number from 1 to 100000000, got 0"),
        (
            '[history]\ndurability = "ful"',
            '2: history.durability: must be "full" or "normal", got "ful"; did you mean "full"?',
        ),
        ('[history]\non_corruption = 1', '2: history.on_corruption: must be "continue" or "stop", got 1'),
        ("[history]\nreserve = 5", '2: history.reserve: write "5B" instead of 5'),
        ("[resources]\ngpu = 0", "2: resources.gpu: must be a whole number from 1 to 1000000, got 0"),
        ('[resources]\n".x" = 1', '2: resources.".x": a resource\'s name must be made of letters'),
        ("[calendars.a]", "1: calendars.a: needs cron, dates or file: when it is open"),
        ('[calendars.a]\ncron = "61 * * * *"', '2: calendars.a.cron: minute must be 0-59, got "61"'),
        ('[calendars.a]\ncron = "0 * 9 * * *"', "2: calendars.a.cron: a window has no seconds"),
        ('[calendars.a]\ncron = "@daily"', "2: calendars.a.cron: must be the minutes during which it is open"),
        ('[calendars.a]\ncron = "H 9 * * *"', "2: calendars.a.cron: H spreads jobs by name"),
        ('[calendars.a]\ncron = "* * H * *"', "2: calendars.a.cron: H spreads jobs by name"),
        ('[calendars.a]\ncron = "* * 30 2 *"', "2: calendars.a.cron: never fires"),
        ('[calendars.a]\ncron = "* 2 * 3 7L"\ntimezone = "Europe/Berlin"', "2: calendars.a.cron: never opens"),
        ('[calendars.a]\ndates = []', "2: calendars.a.dates: must not be empty"),
        (
            "[calendars.a]\ndates = [2026-12-25]",
            '2: calendars.a.dates[0]: must be text, got the date 2026-12-25; write "2026-12-25"',
        ),
        ('[calendars.a]\ndates = ["2026-02-30"]', '2: calendars.a.dates[0]: must be a date such as "2026-12-25"'),
        ('[calendars.a]\ndates = ["2026-W01-1"]', '2: calendars.a.dates[0]: must be a date such as "2026-12-25"'),
        (
            '[calendars.a]\ndates = ["2027-01-02/2027-01-01"]',
            "2: calendars.a.dates[0]: the range must not end before it begins",
        ),
        ('[calendars.a]\ndates = ["0001-01-01"]', "2: calendars.a.dates[0]: the year must be 1970-9000"),
        (
            '[calendars.a]\ndates = ["2099-01-01"]\ntimezone = "Mars"',
            '3: calendars.a.timezone: unknown time zone "Mars"',
        ),
        ("[hooks.a]", "1: hooks.a: needs command, webhook or mail"),
        (
            '[hooks.a]\ncommand = ["x"]\nwebhook = "https://h"',
            "3: hooks.a.webhook: only one of command, webhook and mail may be written; command is there already",
        ),
        ('[hooks.a]\nwebhook = "ftp://h/x"', f'2: hooks.a.webhook: {URL} "ftp://h/x"'),
        ('[hooks.a]\nwebhook = "https://u:pw@h /x"', f'2: hooks.a.webhook: {URL} "https://u:***@h /x"'),
        (
            '[hooks.a]\nwebhook = "https://h:99999/x"',
            "2: hooks.a.webhook: must be a URL with a host and a port that can be",
        ),
        ('[hooks.a]\ncommand = [""]', "2: hooks.a.command: the program's name must not be empty"),
        ('[hooks.a]\ncommand = ["x"]\nretries = 1', "3: hooks.a.retries: a command is not tried again"),
        ('[hooks.a]\ncommand = ["x"]\nheaders = { A = "b" }', "3: hooks.a.headers: only a webhook has headers"),
        (
            '[hooks.a]\nwebhook = "http://h"\nheaders = { "A:" = "b" }',
            '3: hooks.a.headers."A:": a header\'s name must be made of',
        ),
        ('[hooks.a]\nwebhook = "http://h"\nheaders = { A = "b\\nc" }', "3: hooks.a.headers.A: must be one line"),
        ('[hooks.a]\nwebhook = "http://h"\nheaders = { Host = "b" }', "3: hooks.a.headers.Host: is set by tidegate"),
        ('[hooks.a]\nmail = { to = [] }', "2: hooks.a.mail.to: must not be empty"),
        (
            '[hooks.a]\nmail = { to = ["a b"] }',
            '2: hooks.a.mail.to[0]: must be a mail address such as "ops@example.org", got "a b"',
        ),
        (
            '[hooks.a]\nmail = { to = ["a"], from = "<x>" }',
            '2: hooks.a.mail.from: must be a mail address such as "ops@example.org", got "<x>"',
        ),
        (
            '[hooks.a]\nmail = { to = ["a"], smtp = "mail" }',
            '2: hooks.a.mail.smtp: must be host:port such as "localhost:25" or',
        ),
        ('[hooks.a]\nmail = { to = ["a"], user = "x" }', "2: hooks.a.mail.user: needs password_file"),
        ('[hooks.a]\nmail = { to = ["a"], password_file = "password" }', "2: hooks.a.mail.password_file: needs user"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_told_with_its_line(text: str, message: str) -> None:
    (problem,) = problems(text + "\n")
    assert problem.startswith(message), problem


def test_a_mail_to_nobody_and_a_window_of_nothing_are_told() -> None:
    assert problems("[hooks.a]\nmail = { smtp = 'a:1' }\n") == ["2: hooks.a.mail: needs to: who gets it"]
    (problem,) = problems("[jobs.x]\nshell = 'x'\nonly_during = [{ action = 'skip' }]\n")
    assert problem == "3: jobs.x.only_during[0]: needs calendar"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("uses = { databse = 1 }", 'uses.databse: no resource named "databse"; did you mean "database"?'),
        ("uses = { tape = 1 }", 'uses.tape: no resource named "tape"; write it into [resources] of tidegate.toml'),
        ("uses = { database = 3 }", 'uses.database: 3 units of "database", but only 2 exist'),
        ("uses = { database = 0 }", "uses.database: must be a whole number from 1 to 1000000, got 0"),
        ('only_during = ["ofice"]', 'only_during[0]: no calendar named "ofice"; did you mean "office"?'),
        ('only_during = "office"', 'only_during: must be a list, got "office"; write ["office"]'),
        ("only_during = [3]", "only_during[0]: must be text or a table, got 3"),
        (
            'only_during = [{ calendar = "office", action = "wait" }]',
            'only_during[0].action: must be "skip" or "defer", got "wait"',
        ),
        ('only_during = [{ calender = "office" }]', 'only_during[0].calender: unknown key; did you mean "calendar"?'),
        ('only_during = ["office", "office"]', 'only_during[1]: names "office" twice'),
        (
            'only_during = ["office"]\nnot_during = ["office"]',
            'not_during: "office" is in only_during too: it would never run',
        ),
        ('on_failure = ["opps"]', 'on_failure[0]: no hook named "opps"; did you mean "ops"?'),
        ('on_absence = ["ops"]', "on_absence: needs cron or every: without a period nothing is ever overdue"),
        ('on_absence = ["ops"]\nat = 2099-01-01T00:00:00Z', "on_absence: needs cron or every"),
        ('expected = "0s"', 'expected: must be at least "1ms", got "0s"'),
        ('on_interrupted = "retry"', 'on_interrupted: must be "ignore" or "rerun", got "retry"'),
        ('ping = { start = "x" }', f'ping.start: {URL} "x"'),
        ('ping = { fail = "http://x" }', 'ping.fail: unknown key'),
        ('user = "nobodyhere"', 'user: no user named "nobodyhere" on this machine'),
        ('group = "nobodyhere"', 'group: no group named "nobodyhere" on this machine'),
        ('groups = ["daemon", "nobodyhere"]', 'groups: no group named "nobodyhere" on this machine'),
        ('user = "a\\u0000b"', 'user: no user named "a\\u0000b" on this machine'),
        ('memory_max = "1kB"', 'memory_max: must be at least "1MiB", got "1kB"'),
        ("memory_max = 5", 'memory_max: write "5B" instead of 5'),
        ("cpu_max = 0", "cpu_max: must be a number from 0.01 to 10000, got 0"),
        ("pids_max = 0", "pids_max: must be a whole number from 1 to 4194304, got 0"),
        ("io_weight = 10001", "io_weight: must be a whole number from 1 to 10000, got 10001"),
        ("oom_score_adj = -1001", "oom_score_adj: must be a whole number from -1000 to 1000, got -1001"),
    ],
)  # fmt: skip
def test_a_wrong_key_of_a_job_is_told_with_its_line(line: str, message: str) -> None:
    (problem,) = problems(f'{MAIN}[jobs.x]\nshell = "x"\n{line}\n')
    assert f": jobs.x.{message}" in problem, problem


def test_a_hook_that_is_refused_is_not_missing_too() -> None:
    (problem,) = problems('[hooks.a]\n[jobs.x]\nshell = "x"\non_failure = ["a"]\n')
    assert problem == "1: hooks.a: needs command, webhook or mail"


def test_a_ping_is_no_default() -> None:
    (problem,) = problems('[defaults]\nping = { start = "https://h" }\n')
    assert problem == "2: defaults.ping: not allowed in [defaults]; write it in the jobs"


def test_a_calendar_whose_dates_are_past_and_a_password_in_clear_text_are_warnings() -> None:
    mail = '{ to = ["a"], user = "u", password_file = "password", smtp = "h:25" }'
    text = f'[calendars.a]\ndates = ["2020-01-01"]\n[hooks.m]\nmail = {mail}\n'
    assert read(text + '[jobs.x]\nshell = "x"\n').warnings[-2:] == (
        "tidegate.toml:1: calendars.a: does not open any more: all its dates are past",
        "tidegate.toml:4: hooks.m.mail.password_file: the password crosses the network in clear text:"
        " write starttls = true",
    )


# --- somebody else --------------------------------------------------------------------------------------------------


def test_only_root_runs_a_job_as_somebody_else() -> None:
    daemon = pwd.getpwnam("daemon")
    itself = Identity(daemon.pw_uid, daemon.pw_gid, frozenset({daemon.pw_gid}))
    other = Identity(4_000_000, 4_000_000)
    text = f'{MAIN}[jobs.x]\nshell = "x"\nuser = "daemon"\ngroup = "daemon"\ngroups = ["daemon"]\n'
    Path("tidegate.toml").write_text(text)
    users = Users(itself)
    assert users.wrong(RunAs("daemon", "daemon", ("daemon",))) == ()
    said = ("only root can run a job as somebody else",)
    assert Users(other).wrong(RunAs("daemon", "daemon", ("daemon",))) == tuple(
        (key, *said) for key in ("user", "group", "groups")
    )
    assert [problem.partition(": ")[2] for problem in problems(text, other)] == [
        f"jobs.x.{key}: only root can run a job as somebody else" for key in ("user", "group", "groups")
    ]


def test_who_only_looks_on_is_shown_jobs_of_other_users() -> None:
    onlooker = Identity(4_000_000, 4_000_000, looks_on=True)
    assert read(f'{MAIN}[jobs.x]\nshell = "x"\nuser = "daemon"\n', onlooker).jobs["x"].run_as == RunAs("daemon")


def test_list_and_show_read_what_somebody_else_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    from tidegate.cli.options import load_plan

    Path("tidegate.toml").write_text('[jobs.x]\nshell = "x"\nuser = "daemon"\n')
    monkeypatch.setattr(os, "geteuid", lambda: 4_000_000)
    assert "x" in load_plan(Path("tidegate.toml")).jobs
    with pytest.raises(SettingsError):
        load(Path("tidegate.toml"))


def test_this_process_is_who_would_run_it() -> None:
    assert identity.of_process() == Identity(os.geteuid(), os.getegid(), frozenset(os.getgroups()))
    assert identity.onlooker().looks_on


# --- threat 6: secrets in files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_threat_6_a_secret_that_others_may_read_is_an_error(mode: int) -> None:
    Path("token").chmod(mode)
    (problem,) = problems('[http]\ntoken_file = "token"\n')
    assert problem.startswith(f"2: http.token_file: others may read it (mode {mode:04o}): chmod 600 ")
    with pytest.raises(ValueError, match="others may read it"):
        read_secret("token")


def test_the_first_line_of_a_secret_is_it(tmp_path: Path) -> None:
    Path("token").write_text("  s3cret \nmore\n")
    assert read_secret("token") == "s3cret"
    for bad in (b"", b"\n", b"x" * 5000, b"\xff"):
        Path("token").write_bytes(bad)
        with pytest.raises(ValueError, match=r"."):
            read_secret("token")
    os.mkfifo("pipe", 0o600)
    with pytest.raises(ValueError, match="not a plain file"):
        read_secret("pipe")
    with pytest.raises(ValueError, match="cannot be read"):
        read_secret("none")


def test_what_systemd_guards_may_be_readable_by_a_group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from tidegate.settings import secret

    monkeypatch.setattr(secret, "CREDENTIALS", f"{tmp_path}/")
    Path("token").chmod(0o440)
    check_secret(str(tmp_path / "token"))
    Path("token").chmod(0o444)
    with pytest.raises(ValueError, match="others may read it"):
        check_secret(str(tmp_path / "token"))
