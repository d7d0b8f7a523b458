"""Every rule of a key, by its exact message: path:line: key: what was expected, what was found."""

import shlex
import sys
from pathlib import Path

import pytest

from tidegate.settings.problem import quoted
from tidegate.settings.read import SettingsError, load

JOB = '[jobs.x]\ncommand = ["true"]\n'
DURATION = 'must be a duration such as "90s", "1h30m", "2d" or "500ms", got'
SIZE = 'must be a size such as "100B", "64KiB", "512MiB" or "2GB", got'
CODES = "must be a whole number from 0 to 255, got"


def problems_of(text: str, name: str = "shop.toml") -> list[str]:
    Path(name).write_text(text)
    with pytest.raises(SettingsError) as caught:
        load(Path(name))
    return [str(problem) for problem in caught.value.problems]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


JOB_LINES = [
    # durations
    ("timeout = 30", 'timeout: write "30s" instead of 30'),
    ("timeout = 1.5", 'timeout: write "30s" instead of 1.5'),
    ("timeout = -3", 'timeout: write "30s" instead of -3'),
    ("timeout = true", 'timeout: must be text such as "30s", got true'),
    ('timeout = "0s"', 'timeout: must be at least "1ms", got "0s"'),
    ('timeout = ""', f'timeout: {DURATION} ""'),
    ('timeout = "30"', f'timeout: {DURATION} "30"'),
    ('timeout = "30 s"', f'timeout: {DURATION} "30 s"'),
    ('timeout = "-5s"', f'timeout: {DURATION} "-5s"'),
    ('timeout = "30m1h"', f'timeout: {DURATION} "30m1h"'),
    ('timeout = "5 minutes"', f'timeout: {DURATION} "5 minutes"'),
    ('timeout = "١s"', f'timeout: {DURATION} "١s"'),
    ('timeout = "9999999d"', 'timeout: must be at most 100 years, got "9999999d"'),
    ("kill_grace = 10", 'kill_grace: write "10s" instead of 10'),
    ("jitter = 3", 'jitter: write "3s" instead of 3'),
    ('catch_up_window = "0s"', 'catch_up_window: must be at least "1ms", got "0s"'),
    ('start_deadline = "0s"', 'start_deadline: must be at least "1ms", got "0s"'),
    ('every = "500ms"', 'every: must be at least "1s", got "500ms"'),
    ("every = 5", 'every: write "5s" instead of 5'),
    # sizes
    ("output_max = 100", 'output_max: write "100B" instead of 100'),
    ('output_max = "100"', f'output_max: {SIZE} "100"'),
    ('output_max = "5 MB"', f'output_max: {SIZE} "5 MB"'),
    ('output_max = "0B"', 'output_max: must be at least "1B", got "0B"'),
    ('output_max = "9999999999TiB"', 'output_max: must be less than 8 EiB, got "9999999999TiB"'),
    # numbers
    ("priority = 101", "priority: must be a whole number from -100 to 100, got 101"),
    ("priority = -101", "priority: must be a whole number from -100 to 100, got -101"),
    ("priority = true", "priority: must be a whole number from -100 to 100, got true"),
    ("priority = 1.0", "priority: must be a whole number from -100 to 100, got 1.0"),
    ('priority = "high"', 'priority: must be a whole number from -100 to 100, got "high"'),
    ("nice = 20", "nice: must be a whole number from -20 to 19, got 20"),
    ("nice = -21", "nice: must be a whole number from -20 to 19, got -21"),
    ("umask = 22", 'umask: write "022" instead of 22'),
    ("umask = 0o22", 'umask: write "018" instead of 18'),
    ('umask = "088"', 'umask: must be octal text from "000" to "777", got "088"'),
    ('umask = "1777"', 'umask: must be octal text from "000" to "777", got "1777"'),
    ("success_exit_codes = [0, 256]", f"success_exit_codes[1]: {CODES} 256"),
    ("success_exit_codes = []", "success_exit_codes: must not be empty"),
    ("success_exit_codes = 0", "success_exit_codes: must be a list, got 0; write [0]"),
    # words
    ('overlap = "skp"', 'overlap: must be "skip", "queue", "replace" or "allow", got "skp"; did you mean "skip"?'),
    ("overlap = false", 'overlap: must be "skip", "queue", "replace" or "allow", got false'),
    ('catch_up = "every"', 'catch_up: must be "none", "last" or "all", got "every"'),
    ('leftovers = "kil"', 'leftovers: must be "kill" or "leave", got "kil"; did you mean "kill"?'),
    ('output = "stdout"', 'output: must be "file", "journal" or "discard", got "stdout"'),
    ('enabled = "no"', 'enabled: must be true or false, got "no"'),
    ("enabled = 1", "enabled: must be true or false, got 1"),
    # retries
    ("retries = 3", "retries: must be a table, got 3"),
    ("retries = { max = 1001 }", "retries.max: must be a whole number from 0 to 1000, got 1001"),
    ("retries = { max = true }", "retries.max: must be a whole number from 0 to 1000, got true"),
    ("retries = { delay = 5 }", 'retries.delay: write "5s" instead of 5'),
    ('retries = { max_delay = "x" }', f'retries.max_delay: {DURATION} "x"'),
    ("retries = { factor = 0.5 }", "retries.factor: must be a number from 1 to 100, got 0.5"),
    ("retries = { factor = nan }", "retries.factor: must be a number from 1 to 100, got nan"),
    ("retries = { factor = inf }", "retries.factor: must be a number from 1 to 100, got inf"),
    ("retries = { jitter = 1.5 }", "retries.jitter: must be a number from 0 to 1, got 1.5"),
    ("retries = { on_exit_codes = [-1] }", f"retries.on_exit_codes[0]: {CODES} -1"),
    ("retries = { count = 3 }", "retries.count: unknown key"),
    ("retries = { dely = '3s' }", 'retries.dely: unknown key; did you mean "delay"?'),
    # environment and paths
    ("env = { PORT = 80 }", 'env.PORT: must be text, got 80; write "80"'),
    ("env = { DEBUG = true }", 'env.DEBUG: must be text, got true; write "true"'),
    ('env = { TIDEGATE_JOB = "x" }', "env.TIDEGATE_JOB: names that begin with TIDEGATE_ are set by tidegate"),
    ('env = { X = "a\\u0000b" }', "env.X: must not contain a NUL character"),
    ('env = ["A=b"]', "env: must be a table, got a list"),
    ('cwd = "srv/shop"', 'cwd: must be absolute or begin with "~/", "./" or "../", got "srv/shop"'),
    ('cwd = "~bob/x"', 'cwd: must be absolute or begin with "~/", "./" or "../", got "~bob/x"'),
    ('cwd = "/a\\u0000"', "cwd: must not contain a NUL character"),
    ('env_file = ""', 'env_file: must be a path, absolute or relative to this file\'s folder, got ""'),
    ('env_file = "~/e"', 'env_file: must be a path, absolute or relative to this file\'s folder, got "~/e"'),
    ("description = 5", 'description: must be text, got 5; write "5"'),
    # triggers
    ('cron = "61 * * * *"', 'cron: minute must be 0-59, got "61"'),
    (
        "at = 2026-01-01",
        "at: must be a date and time such as 2026-12-24T18:00:00+01:00, got the date 2026-01-01;"
        " write 2026-01-01T00:00:00",
    ),
    ("at = 18:00:00", "at: must be a date and time such as 2026-12-24T18:00:00+01:00, got the time 18:00:00"),
    (
        'at = "2026-12-24T18:00:00Z"',
        'at: must be a date and time such as 2026-12-24T18:00:00+01:00, got "2026-12-24T18:00:00Z"; '
        "write it without quotes",
    ),
    ("at = 9999-12-31T23:59:59-23:00", "at: is beyond the calendar"),
    ("at = 9999-10-31T02:30:00", "at: must be in the years 1970 to 9000, got 9999-10-31 02:30:00"),
    ("at = 1969-07-20T20:17:00Z", "at: must be in the years 1970 to 9000, got 1969-07-20 20:17:00+00:00"),
    ('jitter = "400d"', 'jitter: must be at most "366d", beyond it is another schedule, got "400d"'),
    ('timezone = "Europe/Berlinn"', 'timezone: unknown time zone "Europe/Berlinn"; did you mean "Europe/Berlin"?'),
    ('timezone = ""', 'timezone: must be an IANA name such as Europe/Berlin or UTC, got ""'),
    ('timezone = "a.a.a"', 'timezone: must be an IANA name such as Europe/Berlin or UTC, got "a.a.a"'),
    ('timezone = "../x"', 'timezone: must be an IANA name such as Europe/Berlin or UTC, got "../x"'),
    ("timezone = 1", 'timezone: must be text such as "Europe/Berlin", got 1'),
    ("cron = 5", 'cron: must be text such as "15 2 * * *", got 5'),
    ("cron = 2026-01-02", 'cron: must be text such as "15 2 * * *", got the date 2026-01-02'),
    ("user = 1000", "user: must be text, got 1000"),
    ("description = 2026-01-02", 'description: must be text, got the date 2026-01-02; write "2026-01-02"'),
    ('at = "tomorrow"', 'at: must be a date and time such as 2026-12-24T18:00:00+01:00, got "tomorrow"'),
    ("success_exit_codes = 300", "success_exit_codes: must be a list, got 300"),
    ("success_exit_codes = true", "success_exit_codes: must be a list, got true"),
    ("after = 1", "after: must be a list, got 1"),
    # after
    ('after = ["y"]', 'after: no job named "y"'),
    ('after = ["x"]', "after: a job cannot be after itself"),
    ('after = "x"', 'after: must be a list, got "x"; write ["x"]'),
    ("after = [1]", "after[0]: must be text, got 1"),
    # keys
    ("prority = 3", 'prority: unknown key; did you mean "priority"?'),
    ("zzz = 3", "zzz: unknown key"),
    ('"a b" = 3', '"a b": unknown key'),
    ('"\\u001b[31m" = 3', '"\\u001b[31m": unknown key'),
    ('"\\u009b\\u202e" = 3', '"\\x9b\\u202e": unknown key'),
    ("shell = 'x'", "shell: only one of command, shell and python may be written"),
]


@pytest.mark.parametrize(("line", "message"), JOB_LINES)
def test_a_wrong_job_key_is_told_with_line_key_and_advice(line: str, message: str) -> None:
    assert problems_of(f"{JOB}{line}\n") == [f"shop.toml:3: jobs.x.{message}"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[jobs.x]\n", "shop.toml:1: jobs.x: needs command, shell or python: what to run"),
        ("[jobs.x]\ncommand = []\n", "shop.toml:2: jobs.x.command: must not be empty"),
        ('[jobs.x]\ncommand = [""]\n', "shop.toml:2: jobs.x.command: the program's name must not be empty"),
        ('[jobs.x]\ncommand = [\n "a",\n 3]\n', 'shop.toml:4: jobs.x.command[1]: must be text, got 3; write "3"'),
        ('[jobs.x]\ncommand = ["a\\u0000"]\n', "shop.toml:2: jobs.x.command[0]: must not contain a NUL character"),
        ('[jobs.x]\nshell = " "\n', "shop.toml:2: jobs.x.shell: must not be empty"),
        ('[jobs.x]\nshell = "a\\u0000"\n', "shop.toml:2: jobs.x.shell: must not contain a NUL character"),
        (
            f'[jobs.x]\ncommand = ["a", "{"b" * 128 * 1024}"]\n',
            "shop.toml:2: jobs.x.command[1]: must be shorter than 128 KiB: the kernel takes no longer argument",
        ),
        (
            f'[jobs.x]\ncommand = ["a"{", " + repr("b" * 100_000) + ""}{(", " + repr("b" * 100_000)) * 10}]\n',
            "shop.toml:2: jobs.x.command: all arguments together must be at most 1024 KiB",
        ),
        ("[jobs]\nx = 3\n", "shop.toml:2: jobs.x: must be a table, got 3"),
        ("jobs = 3\n", "shop.toml:1: jobs: must be a table, got 3"),
        (
            '[jobs.".x"]\nshell = "x"\n',
            'shop.toml:1: jobs.".x": a job\'s name must be made of letters A-Z a-z, digits, _ . and -, and not begin'
            " with . or -",
        ),
        (
            f'[jobs.{"n" * 101}]\nshell = "x"\n',
            f'shop.toml:1: jobs."{"n" * 59}…": a job\'s name must have at most 100 characters, this one has 101',
        ),
        ('[job.x]\nshell = "x"\n', 'shop.toml:1: job: unknown key; did you mean "jobs"?'),
        ('[x]\nshell = "x"\n', "shop.toml:1: x: unknown key"),
        ('shell = "x"\n', "shop.toml:1: shell: unknown key; a job begins with a header such as [jobs.backup]"),
    ],
)
def test_a_wrong_job_is_told_with_its_line(text: str, message: str) -> None:
    assert problems_of(text) == [message]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (
            'cron = "@daily"\nevery = "5m"',
            "every: only one of cron, every and at may be written; cron is there already",
        ),
        (
            'at = 2099-01-01T00:00:00Z\ncron = "@daily"',
            "at: only one of cron, every and at may be written; cron is there already",
        ),
        (
            'every = "1h"\nat = 2099-01-01T00:00:00Z',
            "at: only one of cron, every and at may be written; every is there already",
        ),
    ],
)
def test_two_triggers_are_one_too_many(lines: str, expected: str) -> None:
    (message,) = problems_of(JOB + lines)
    assert message.endswith(f": jobs.x.{expected}")


def test_a_promised_key_is_refused_until_it_works() -> None:
    assert problems_of(f"{JOB}tasks = 1\n") == ["shop.toml:3: jobs.x.tasks: not supported by this version"]


def test_tasks_in_place_of_a_command_are_one_error_not_two() -> None:
    assert problems_of("[jobs.x]\ntasks = 'a:b'\n") == ["shop.toml:2: jobs.x.tasks: not supported by this version"]


MAIN_LINES = [
    (
        '[daemon]\ntimezone = "Nowhere"',
        '2: daemon.timezone: unknown time zone "Nowhere" (names are such as Europe/Berlin or UTC)',
    ),
    ('[daemon]\nlog_format = "xml"', '2: daemon.log_format: must be "auto", "console", "journal" or "json", got "xml"'),
    (
        '[daemon]\nlog_level = "warn"',
        '2: daemon.log_level: must be "debug", "error", "info", "trace" or "warning", got "warn";'
        ' did you mean "warning"?',
    ),
    ('[daemon]\non_stop = "kill"', '2: daemon.on_stop: must be "auto", "drain" or "leave", got "kill"'),
    ("[daemon]\ndrain_timeout = 5", '2: daemon.drain_timeout: write "5s" instead of 5'),
    ('[daemon]\njobs = "a.toml"', '2: daemon.jobs: must be a list, got "a.toml"; write ["a.toml"]'),
    ('[daemon]\njobs = ["a.toml"]', '2: daemon.jobs[0]: no such file: "a.toml"'),
    ('[daemon]\njobs = [""]', "2: daemon.jobs[0]: must be a path or a pattern"),
    ("[daemon]\njob = []", '2: daemon.job: unknown key in [daemon]; did you mean "jobs"?'),
    ("daemon = 3", "1: daemon: must be a table, got 3"),
    ("[pool]\nmin = 0", "2: pool.min: must be a whole number from 1 to 100000, got 0"),
    ('[pool]\nmax = "many"', '2: pool.max: must be "auto" or a whole number from 1 to 100000, got "many"'),
    ("[pool]\nmax = 0", '2: pool.max: must be "auto" or a whole number from 1 to 100000, got 0'),
    ("[pool]\nmin = 4\nmax = 2", "3: pool.max: must be at least min, which is 4, got 2"),
    (
        '[http]\nlisten = "9810"',
        '2: http.listen: must be address:port such as "127.0.0.1:9810" or "[::1]:9810", or "", got "9810"',
    ),
    (
        '[http]\nlisten = ":9810"',
        '2: http.listen: must be address:port such as "127.0.0.1:9810" or "[::1]:9810", or "", got ":9810"',
    ),
    ('[http]\nlisten = "a:65536"', "2: http.listen: the port must be 0-65535, got 65536"),
    ("[http]\nlisten = 9810", '2: http.listen: must be text such as "127.0.0.1:9810", got 9810'),
    ("[http]\nallowed_hosts = [1]", "2: http.allowed_hosts[0]: must be text, got 1"),
    ("[metrics]\nper_job_histograms = 1", "2: metrics.per_job_histograms: must be true or false, got 1"),
    ('[defaults]\ncommand = ["x"]', "2: defaults.command: not allowed in [defaults]; write it in the jobs"),
    ('[defaults]\ncron = "@daily"', "2: defaults.cron: not allowed in [defaults]; write it in the jobs"),
    ("[defaults]\ntimeout = 5", '2: defaults.timeout: write "5s" instead of 5'),
    (
        '[defaults]\ntimezone = "Mars"',
        '2: defaults.timezone: unknown time zone "Mars" (names are such as Europe/Berlin or UTC)',
    ),
    ("[defaults]\nmemory = 5", '2: defaults.memory: write "5B" instead of 5'),
    ("[pol]\nmin = 1", '1: pol: unknown key; did you mean "pool"?'),
]


@pytest.mark.parametrize(("text", "message"), MAIN_LINES)
def test_a_wrong_daemon_key_is_told_with_line_key_and_advice(text: str, message: str) -> None:
    assert problems_of(text + "\n", "tidegate.toml") == [f"tidegate.toml:{message}"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[jobs.x]\ncommand = [\n", "shop.toml:2: not TOML: "),
        ("a b\n", "shop.toml:1: not TOML: Expected '=' after a key in a key/value pair"),
        ("\n\n\nx = \x1b\n", "shop.toml:4: not TOML: "),
        ("[jobs.x]\nshell='a'\n[jobs.x]\n", "shop.toml:3: not TOML: [jobs.x] is already defined at line 1"),
    ],
)
def test_a_syntax_error_has_its_line(text: str, message: str) -> None:
    (problem,) = problems_of(text)
    assert problem.startswith(message), problem


def test_fault_30_a_date_that_never_comes_is_refused_with_its_line() -> None:
    (problem,) = problems_of(f'{JOB}cron = "0 0 30 2 *"\n')
    assert problem.startswith("shop.toml:3: jobs.x.cron: never fires"), problem


def test_h_is_judged_for_each_job_by_its_own_name() -> None:
    names = [f"j{number}" for number in range(30)]
    found = problems_of("".join(f'[jobs.{name}]\nshell = "x"\ncron = "0 0 H(29-30) 2 *"\n' for name in names))
    assert 0 < len(found) < len(names)
    assert all("cron: never fires" in problem for problem in found)


def test_fault_29_missing_time_zone_data_is_told_at_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import zoneinfo

    from tidegate.triggers import zones

    monkeypatch.setattr(zones, "available_timezones", set)
    empty = tmp_path / "tz"
    empty.mkdir()
    before = zoneinfo.TZPATH
    zoneinfo.reset_tzpath([str(empty)])
    zoneinfo.ZoneInfo.clear_cache()
    for name in ["tzdata", *(name for name in sys.modules if name.startswith("tzdata."))]:
        monkeypatch.setitem(sys.modules, name, None)
    try:
        (problem,) = problems_of(f'{JOB}timezone = "Asia/Tokyo"\n')
    finally:
        zoneinfo.reset_tzpath(before)
        zoneinfo.ZoneInfo.clear_cache()
    assert problem.startswith("shop.toml:3: jobs.x.timezone: time zone data not found"), problem


LONG = "x" * 61


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("'true'", '["true"]'),
        ("'echo hi'", '["echo", "hi"]'),
        ("""'a "b c" d\\ e'""", '["a", "b c", "d e"]'),
        ("'ls | wc -l'", 'shell = "ls | wc -l" instead of command'),
        ("'cp *.x $HOME'", 'shell = "cp *.x $HOME" instead of command'),
        ("'A=1 run'", 'shell = "A=1 run" instead of command'),
        ('"echo it\'s"', 'shell = "echo it\'s" instead of command'),
        (f"'ls | {LONG}'", "shell = …, with this text, instead of command"),
        (f"'ls {LONG}'", 'each word as text of its own: ["program", "argument"]'),
        ("' '", ""),
        ("'a\tb'", ""),
        ("5", ""),
    ],
)
def test_a_command_that_is_no_list_is_told_how_to_write_it(text: str, advice: str) -> None:
    (problem,) = problems_of(f"[jobs.x]\ncommand = {text}\n")
    assert "jobs.x.command: must be a list, got " in problem
    assert problem.partition("; write ")[2] == advice


@pytest.mark.parametrize("text", ["true", "echo hi", 'a "b c"', "ls | wc", "echo 'it", "A=1 run", "echo $HOME \\\\ x"])
def test_what_is_advised_for_a_command_is_good(text: str) -> None:
    (problem,) = problems_of(f"[jobs.x]\ncommand = {quoted(text)}\n")
    advice = problem.partition("; write ")[2].removesuffix(" instead of command")
    Path("shop.toml").write_text(f"[jobs.x]\n{advice if advice.startswith('shell') else f'command = {advice}'}\n")
    job = load(Path("shop.toml")).jobs["x"]
    assert job.shell == text if job.shell else job.command == tuple(shlex.split(text))


def test_a_hook_that_needs_a_shell_is_told_how_to_write_it() -> None:
    text = "[hooks.h]\ncommand = 'a | b'\n[hooks.i]\ncommand = 'a b'\n"
    assert [problem.partition("; write ")[2] for problem in problems_of(text, "tidegate.toml")] == [
        '["sh", "-c", …] with this text',
        '["a", "b"]',
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[jobs.a]\n[jobs.b]\n\n[jobs.a]\n", "4: not TOML: [jobs.a] is already defined at line 1"),
        ("[jobs.'a b']\n[ jobs . \"a b\" ]\n", '2: not TOML: [jobs."a b"] is already defined at line 1'),
        ("jobs.a.shell = 'x'\n[jobs.a]\n", "2: not TOML: [jobs.a] is already defined at line 1"),
        ("[jobs.a]\nnice = 1\n\nnice = 2\n", "4: not TOML: jobs.a.nice already has a value, from line 2"),
        ("[jobs.a]\nenv = 'x'\nenv.A = 'x'\n", "3: not TOML: jobs.a.env already has a value, from line 2"),
        ("[jobs.a]\nenv = 'x'\n[jobs.a.env]\n", "3: not TOML: jobs.a.env already has a value, from line 2"),
        ("[a]\nb = [1,\n2]\nb = [\n3]\n", "5: not TOML: a.b already has a value, from line 2"),
        ('[jobs.a]\nshell = "x\nnice = 1\n', "2: not TOML: the string that begins here is not closed"),
        ("[jobs.a]\nshell = 'x\nnice = 1\n", "2: not TOML: the string that begins here is not closed"),
        ("[jobs.a]\nshell = 'x", "2: not TOML: the string that begins here is not closed"),
        ('[jobs.a]\nshell = "x', "2: not TOML: the string that begins here is not closed"),
        ('[jobs.a]\nshell = """\nx\n\n', "2: not TOML: the string that begins here is not closed"),
        ("[jobs.a]\ncommand = ['x',\n'''\n\n", "3: not TOML: the string that begins here is not closed"),
        ("[jobs.a]\ncommand = [\n 'x',\n\n", "2: not TOML: the list jobs.a.command is not closed"),
        ("[jobs.a]\nnice = 1\nenv = { A = 'x'", "3: not TOML: the table jobs.a.env is not closed"),
        (
            "[jobs]\nshell = 'x'\n",
            '2: jobs.shell: must be a table, got "x"; a job has a name: its header is [jobs.NAME], not [jobs]',
        ),
    ],
)
def test_what_the_parser_says_names_the_key_and_where_it_began(text: str, says: str) -> None:
    assert problems_of(text)[0] == f"shop.toml:{says}"


def test_a_value_that_is_missing_at_the_end_is_no_list() -> None:
    assert problems_of("[jobs.a]\nnice =")[0] == "shop.toml:2: not TOML: Invalid value"
