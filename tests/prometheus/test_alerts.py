"""promtool takes what packaging/prometheus/ and the docs hold, and each alert fires when it should and not else."""

import re
import shutil
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
import yaml
from scraped import HERE, PACKAGED, ROOT

pytestmark = pytest.mark.live

PAGE = (ROOT / "docs" / "how-to" / "scrape-with-prometheus.md").read_text(encoding="utf-8")
BLOCKS = dict(re.findall(r"^```yaml\n# (\S+)\n(.*?)^```$", PAGE, re.M | re.S))
ALERTS = [
    rule
    for group in yaml.safe_load((PACKAGED / "tidegate.rules.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]
WORLDS = ("alerts.test.yml", "alerts-slow.test.yml")


def promtool(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["promtool", *arguments], cwd=folder, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The packaged files, with the tests of their rules beside them."""
    for path in (*PACKAGED.iterdir(), *HERE.glob("*.yml")):
        shutil.copy(path, tmp_path)
    return tmp_path


def test_the_packaged_configuration_and_rules_are_good(folder: Path) -> None:
    promtool(folder, "check", "config", "prometheus.yml")
    said = promtool(folder, "check", "rules", "tidegate.rules.yml")
    assert said.strip() in PAGE, "the page shows what promtool says"


def test_what_the_packaged_bounds_show_as_an_example_is_good(folder: Path) -> None:
    path = folder / "tidegate-jobs.rules.yml"
    text = path.read_text(encoding="utf-8").replace("rules: []", "rules:")
    path.write_text(re.sub(r"^    #  ", "      ", text, flags=re.M), encoding="utf-8")
    assert "2 rules found" in promtool(folder, "check", "rules", path.name)


def test_what_the_page_shows_is_good(folder: Path) -> None:
    assert set(BLOCKS) == {"prometheus.yml", "tidegate-jobs.rules.yml"}
    for name, text in BLOCKS.items():
        (folder / name).write_text(text)
    promtool(folder, "check", "config", "prometheus.yml")


@pytest.mark.parametrize("world", WORLDS)
def test_alerts_fire_when_they_should_and_not_else(folder: Path, world: str) -> None:
    promtool(folder, "test", "rules", world)


def test_every_alert_is_tried_both_ways() -> None:
    fires: dict[str, set[bool]] = defaultdict(set)
    for world in WORLDS:
        for group in yaml.safe_load((HERE / world).read_text(encoding="utf-8"))["tests"]:
            for case in group["alert_rule_test"]:
                fires[case["alertname"]].add(bool(case["exp_alerts"]))
    assert fires == {rule["alert"]: {True, False} for rule in ALERTS}


def test_every_alert_says_what_it_is_and_what_to_do() -> None:
    for rule in ALERTS:
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description"}, rule["alert"]
        assert rule["annotations"]["description"].endswith("."), rule["alert"]


def test_the_page_has_a_row_for_every_alert_and_for_no_other() -> None:
    assert set(re.findall(r"^\| `(Tidegate\w+)` \|", PAGE, re.M)) == {rule["alert"] for rule in ALERTS}


def test_alerts_name_only_metrics_that_exist() -> None:
    reference = (ROOT / "docs" / "reference" / "metrics.md").read_text(encoding="utf-8")
    known = set(re.findall(r"^\| `(tidegate_\w+)` \|", reference, re.M))
    for rule in ALERTS:
        for name in re.findall(r"\btidegate_\w+", rule["expr"]):
            assert re.sub(r"_(bucket|sum|count)$", "", name) in known, (rule["alert"], name)
