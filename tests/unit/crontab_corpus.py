"""Crontabs as they are found on machines, and some that are only found in nightmares. Users are those of any Debian."""

from pathlib import Path

FOLDER = Path(__file__).parent / "crontabs"
SYSTEM = (FOLDER / "system").read_text(encoding="utf-8")
USER = (FOLDER / "user").read_text(encoding="utf-8")
ANACRON = (FOLDER / "anacron").read_text(encoding="utf-8")

# What cron itself refuses or would never run, and how the message begins.
REFUSED = {
    "60 * * * * x": "cron refuses the minute",
    "0 24 * * * x": "cron refuses the hour",
    "0 0 0 * * x": "cron refuses the day of month",
    "0 0 * 13 * x": "cron refuses the month",
    "0 0 * * 8 x": "cron refuses the day of week",
    "0 0 * * monday x": "cron refuses the day of week",
    "5/15 * * * * x": "cron refuses the minute",
    "*/0 * * * * x": "cron refuses the minute",
    "*/-1 * * * * x": "cron refuses the minute",
    "1, * * * * x": "cron refuses the minute",
    ",1 * * * * x": "cron refuses the minute",
    "? 0 * * * x": "cron refuses the minute",
    "0 0 L * * x": "cron refuses the day of month",
    "* * * * * * x": "cron refuses a command that begins with *",
    "1 2 3": "cron expects five fields",
    "1 2 3 4 5": "there is no command",
    "foo": "cron expects five fields",
    "@Daily x": 'cron knows no "@Daily"; did you mean "@daily"?',
    "@every_minute x": "cron knows no",
    "@hourly": "there is no command",
    "FOO=": "cron expects five fields",
    "FOO='bar": "cron expects five fields",
    'FOO="bar" baz': "cron expects five fields",
    "50-10 * * * * x": "cron accepts the minute",
    "0 0 * * fri-sun x": "cron accepts the day of week",
    "0 0 31 2 * x": "cron accepts the line and never runs it",
    "* * * * * x\0y": "the line holds a NUL",
}
