"""tidegate import-crontab: crontabs to job files, each line proven against cron's own rules. Leaves cron as it is."""

import os
import sys
from pathlib import Path
from typing import Final

import click
from msgspec import Struct

from tidegate import clock
from tidegate.cli import crontab_sources
from tidegate.cli.crontab_file import file_text
from tidegate.cli.crontab_proof import Prover, Verdict, read_back, unbuildable
from tidegate.cli.crontab_sources import Source, Unread
from tidegate.cli.init import write_new
from tidegate.cli.options import chosen_config_path, config_option, json_option, known_zone, print_json, system_zone
from tidegate.model.plan import Plan
from tidegate.model.text import counted, escape
from tidegate.settings.cron_rules import Dialect
from tidegate.settings.crontab import Crontab, Layout, Refused
from tidegate.settings.crontab_jobs import Choice, Drafted, cleaned, draft
from tidegate.settings.identity import onlooker, uid_of
from tidegate.settings.problem import SettingsError
from tidegate.settings.read import load
from tidegate.settings.rules import hook_name

ROUNDS_MAX: Final = 5  # a job that tidegate would not take is left out, and the rest read again


class Import(Struct):
    """One crontab on its way to a file."""

    source: Source
    tab: Crontab
    drafts: list[Drafted | Refused]
    path: Path
    text: str = ""
    verdicts: dict[str, Verdict] = {}

    def jobs(self) -> list[Drafted]:
        """What has become a job."""
        return [each for each in self.drafts if isinstance(each, Drafted)]

    def write_text(self) -> None:
        """The text of the file as the drafts are now."""
        self.text = file_text(self.source.origin, self.tab, self.drafts)


@click.command()
@click.argument("file", metavar="[FILE]", required=False, type=click.Path(path_type=Path, allow_dash=True))
@click.option("--user", metavar="USER", help="The user's own crontab.")
@click.option("--system", is_flag=True, help="/etc/crontab, /etc/cron.d and /etc/anacrontab.")
@click.option("--dry-run", is_flag=True, help="Write no file; print on stdout what would be written.")
@click.option(
    "--output",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the job files go.  [default: jobs.d beside the configuration]",
)
@click.option("--force", is_flag=True, help="Write over files that exist.")
@click.option("--layout", type=click.Choice([each.value for each in Layout]), help="Of FILE.  [default: by its path]")
@click.option(
    "--dialect",
    type=click.Choice([each.value for each in Dialect]),
    help="Whose cron it is.  [default: this machine's]",
)
@click.option(
    "--timezone",
    metavar="ZONE",
    callback=known_zone,
    default=system_zone,
    help="Of that cron.  [default: the system's]",
)
@click.option("--mail-hook", metavar="HOOK", help="Tell this hook of failures where cron would send mail.")
@config_option
@json_option
def command(
    file: Path | None,
    user: str | None,
    system: bool,
    dry_run: bool,
    output: Path | None,
    force: bool,
    layout: str | None,
    dialect: str | None,
    timezone: str,
    mail_hook: str | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Turn crontabs into job files, and prove that they fire as cron does.

    FILE is a crontab ("-": standard input). Every line becomes a job, with its comments; its fires of the next two
    years are compared with cron's own rules, and what differs is listed. What cannot be carried over is said line by
    line on stderr, as path:line: note, and in the file. Exit code 1: a line was not taken, or fires otherwise.

    \b
    Example:
      tidegate import-crontab --system --dry-run
      tidegate import-crontab --user www-data && tidegate check
    """
    if sum((file is not None, user is not None, system)) != 1:
        raise click.UsageError("name one of: a FILE, --user USER, --system")
    if mail_hook is not None:
        _check_hook(mail_hook)
    whose = Dialect(dialect) if dialect else crontab_sources.usual_dialect()
    found = _found(file, user, system, layout, whose)
    unread = [each for each in found if isinstance(each, Unread)]
    folder = output or _usual_folder(config)
    choice = Choice(whose, timezone, None, mail_hook)
    sources = [each for each in found if isinstance(each, Source)]
    taken = _taken(config, {_target(each, folder).resolve() for each in sources})
    imports = _imports(sources, folder, choice, taken)
    _prove(imports, mail_hook)
    wanted = [each for each in imports if each.jobs()]
    if not dry_run:
        _write(wanted, force)
    if as_json:
        print_json(_as_json(imports, unread, written=not dry_run))
    else:
        _tell(imports, unread, dry_run)
    if any(each.is_lost for each in unread) or not wanted or any(_is_bad(each) for each in imports):
        sys.exit(1)


def _check_hook(name: str) -> None:
    try:
        hook_name(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--mail-hook") from error


def _found(
    file: Path | None, user: str | None, system: bool, layout: str | None, dialect: Dialect
) -> list[Source | Unread]:
    if system:
        return crontab_sources.of_system(dialect)
    if user is not None:
        return [crontab_sources.of_user(user)]
    assert file is not None
    return [crontab_sources.of_file(file, Layout(layout) if layout else None)]


def _usual_folder(config: Path | None) -> Path:
    path = chosen_config_path(config)
    return (path if path.is_dir() else path.parent) / "jobs.d"


def _taken(config: Path | None, targets: set[Path]) -> set[str]:
    """Names of jobs that are there already, but for those in files that this import would write."""
    try:
        plan = load(chosen_config_path(config), onlooker())
    except SettingsError:
        return set()  # none yet, or a broken one: its own errors are not what was asked about
    return {name for name, job in plan.jobs.items() if Path(job.source.rpartition(":")[0]).resolve() not in targets}


def _target(source: Source, folder: Path) -> Path:
    return folder / f"{cleaned(source.stem) or 'crontab'}.toml"


def _imports(sources: list[Source], folder: Path, choice: Choice, taken: set[str]) -> list[Import]:
    found = []
    for source in sources:
        tab, remark = crontab_sources.read(source, choice.dialect)
        if remark:
            click.echo(f"{escape(source.origin)}: note: {remark}", err=True)
        user = source.user or ("root" if source.origin == str(crontab_sources.ETC / "anacrontab") else None)
        own = Choice(choice.dialect, choice.zone_name, user, choice.mail_hook)
        found.append(Import(source, tab, draft(tab, own, taken), _target(source, folder)))
    return found


def _prove(imports: list[Import], hook: str | None) -> None:
    """Fills in texts and verdicts. A job that tidegate would not take becomes a comment that says why."""
    plan: Plan | None = None
    for _ in range(ROUNDS_MAX):
        for each in imports:
            each.write_text()
        plan, wrong = read_back({f"{number}.toml": each.text for number, each in enumerate(imports)}, hook)
        if plan is not None:
            wrong = {name: why for name, job in plan.jobs.items() if (why := unbuildable(job))}
        if not wrong:
            break
        for each in imports:
            each.drafts = [_unless(item, wrong) for item in each.drafts]
    if plan is None:
        raise click.ClickException(f"what was made of it cannot be read back: {escape('; '.join(wrong.values()))}")
    prover = Prover(clock.wall())
    for each in imports:
        each.verdicts = {item.name: prover.verdict(item, plan.jobs[item.name]) for item in each.jobs()}


def _unless(item: Drafted | Refused, wrong: dict[str, str]) -> Drafted | Refused:
    if isinstance(item, Refused) or item.name not in wrong:
        return item
    return Refused(
        item.entry.line, item.entry.text, item.entry.above, f"tidegate takes no such job: {wrong[item.name]}"
    )


def _write(imports: list[Import], force: bool) -> None:
    existing = [each.path for each in imports if os.path.lexists(each.path)]
    if existing and not force:
        listed = "".join(f"\n  {escape(str(path))}" for path in existing)
        raise click.ClickException(
            f"these exist already, and nothing was written:{listed}\n"
            "Choose another directory with --output, or write over them with --force."
        )
    try:
        for each in imports:
            if each.path in existing:
                beside = each.path.with_name(f".{each.path.name}.new")
                beside.unlink(missing_ok=True)
                write_new(beside, each.text)
                beside.replace(each.path)
            else:
                write_new(each.path, each.text)
    except OSError as error:
        raise click.ClickException(f"cannot write {escape(str(error.filename))}: {error.strerror}") from error


def _is_bad(each: Import) -> bool:
    refused = any(isinstance(item, Refused) for item in each.drafts)
    return refused or any(verdict.differences for verdict in each.verdicts.values())


def _tell(imports: list[Import], unread: list[Unread], dry_run: bool) -> None:
    """Notes and problems on stderr; what was made, or would be, on stdout."""
    for missing in unread:
        place = f"{missing.origin}:{missing.line}" if missing.line else missing.origin
        click.echo(f"{escape(place)}: {missing.message}", err=True)
    for each in imports:
        _tell_notes(each)
        if dry_run:
            click.echo(each.text, nl=False)
        count = counted(len(each.jobs()), "job")
        made = "would be written to" if dry_run else "written to"
        target = f"{made} {escape(str(each.path))}" if each.jobs() else "nothing to write"
        click.echo(f"{escape(each.source.origin)}: {count}, {target}", err=dry_run)
        for item in each.jobs():
            click.echo(f"  line {item.entry.line}: {escape(item.name)}: {each.verdicts[item.name]}", err=dry_run)
    if not imports and not unread:
        click.echo("there is no crontab", err=True)
    elif any(each.jobs() for each in imports) and not dry_run:
        click.echo(
            "\nNext: tidegate check; take these lines out of cron, as both would run them; tidegate reload.",
            err=dry_run,
        )


def _tell_notes(each: Import) -> None:
    origin = escape(each.source.origin)
    for note in each.tab.notes:
        click.echo(f"{origin}: note: {note}", err=True)
    if os.geteuid() and any(
        uid_of(str(item.keys["user"])) != os.geteuid() for item in each.jobs() if "user" in item.keys
    ):
        click.echo(f"{origin}: note: it has jobs of other users; only a daemon of root's takes such files", err=True)
    for item in each.drafts:
        if isinstance(item, Refused):
            click.echo(f"{origin}:{item.line}: not imported: {escape(item.message)}", err=True)
            continue
        for note in item.notes:
            click.echo(f"{origin}:{item.entry.line}: note: {note}", err=True)
        verdict = each.verdicts[item.name]
        for difference in verdict.differences:
            click.echo(f"{origin}:{item.entry.line}: differs: {difference}", err=True)
        if verdict.more:
            click.echo(f"{origin}:{item.entry.line}: differs: {verdict.more} times more", err=True)


def _as_json(imports: list[Import], unread: list[Unread], written: bool) -> dict[str, object]:
    """The same for a person's program."""
    files = [
        {
            "origin": each.source.origin,
            "path": str(each.path) if each.jobs() else None,
            "written": written and bool(each.jobs()),
            "notes": list(each.tab.notes),
            "jobs": [_job_json(item, each.verdicts[item.name]) for item in each.jobs()],
            "refused": [
                {"line": item.line, "message": item.message} for item in each.drafts if isinstance(item, Refused)
            ],
        }
        for each in imports
    ]
    problems = [{"origin": each.origin, "line": each.line or None, "message": each.message} for each in unread]
    return {"files": files, "problems": problems}


def _job_json(item: Drafted, verdict: Verdict) -> dict[str, object]:
    return {
        "job": item.name,
        "line": item.entry.line,
        "notes": list(item.notes),
        "fires_compared": verdict.fires,
        "not_compared": verdict.why or None,
        "differences": [
            {"at": each.at.isoformat(), "cron": each.cron, "tidegate": each.tidegate} for each in verdict.differences
        ],
        "differences_more": verdict.more,
    }
