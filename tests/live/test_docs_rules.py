"""The alert rules of docs/how-to/scrape-with-prometheus.md: promtool takes them, and they fire when they should."""

import re
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.live

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "scrape-with-prometheus.md"
BLOCKS = re.findall(r"^```yaml\n# (\S+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.M | re.S)

# a: succeeded once, at 10 h, and its configuration broke at 20 h. b: never succeeded. c: has no such job.
WORLD = """
rule_files: [tidegate.rules.yml]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {series: 'tidegate_job_created_timestamp_seconds{job_name="backup", instance="a"}', values: '0x1800'}
      - {series: 'tidegate_last_success_timestamp_seconds{job_name="backup", instance="a"}', values: '_x600 36000x1200'}
      - {series: 'tidegate_config_last_reload_success{instance="a"}', values: '1x1200 0x600'}
      - {series: 'tidegate_job_created_timestamp_seconds{job_name="backup", instance="b"}', values: '0x1800'}
      - {series: 'up{job="tidegate", instance="a"}', values: '1x1800'}
      - {series: 'up{job="tidegate", instance="b"}', values: '1x1800'}
      - {series: 'up{job="tidegate", instance="c"}', values: '1x600 0x1200'}
      - {series: 'tidegate_runs_total{job_name="backup", instance="a", outcome="failed"}', values: '0x300 1x1500'}
      - {series: 'tidegate_runs_total{job_name="backup", instance="a", outcome="succeeded"}', values: '0x300 1x1500'}
    alert_rule_test:
      - alertname: TidegateNoSuccess
        eval_time: 25h
        exp_alerts: []
      - alertname: TidegateNoSuccess
        eval_time: 27h
        exp_alerts:
          - exp_labels: {job_name: backup, instance: b}
            exp_annotations: {summary: backup has not succeeded for 1d 3h 0m 0s}
      - alertname: TidegateReloadFailed
        eval_time: 19h
        exp_alerts: []
      - alertname: TidegateReloadFailed
        eval_time: 21h
        exp_alerts:
          - exp_labels: {instance: a}
            exp_annotations: {summary: the configuration of a is broken; an older one is live}
      - alertname: TidegateJobMissing
        eval_time: 1h
        exp_alerts:
          - exp_labels: {job: tidegate, instance: c}
            exp_annotations: {summary: there is no job backup on c}
      - alertname: TidegateDown
        eval_time: 11h
        exp_alerts:
          - exp_labels: {job: tidegate, instance: c}
            exp_annotations: {summary: tidegate on c does not answer}
      - alertname: TidegateRunFailed
        eval_time: 5h5m
        exp_alerts:
          - exp_labels: {job_name: backup, instance: a, outcome: failed}
            exp_annotations: {summary: 'backup: failed'}
      - alertname: TidegateRunFailed
        eval_time: 6h
        exp_alerts: []
"""


def promtool(folder: Path, *arguments: str) -> None:
    done = subprocess.run(["promtool", *arguments], cwd=folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_rules_are_good_and_fire_when_they_should(tmp_path: Path) -> None:
    assert {name for name, _ in BLOCKS} == {"prometheus.yml", "tidegate.rules.yml"}
    for name, text in BLOCKS:
        (tmp_path / name).write_text(text)
    (tmp_path / "world.yml").write_text(WORLD)
    promtool(tmp_path, "check", "config", "prometheus.yml")
    promtool(tmp_path, "test", "rules", "world.yml")
