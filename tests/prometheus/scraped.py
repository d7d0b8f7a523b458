"""Debian's Prometheus over two targets: a real daemon under load, and metrics made up so that nothing in them is zero.

The made-up ones are the daemon's own code (`Metrics`) told facts that no test machine should go through: memory so
short that runs are frozen and killed, a history that cannot be written.
"""

import http.client
import itertools
import json
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "live"))

from daemon_process import Daemon, free_port, until

from tidegate.model.command import Fact, Record, Resize
from tidegate.model.job import Job
from tidegate.model.plan import Plan
from tidegate.model.run import Outcome, Run, Skip, State, Usage
from tidegate.telemetry.metrics import Metrics

ROOT = Path(__file__).resolve().parents[2]
PACKAGED = ROOT / "packaging" / "prometheus"
HERE = Path(__file__).parent
DAEMON = "daemon"  # their names as `instance`
MADE_UP = "made-up"
SCRAPE_S = 0.5
LOAD_S = 60.0  # takes 5 s on a machine with nothing else to do
Row = tuple[dict[str, str], float]

SETTINGS = """
[daemon]
timezone = "UTC"
log_format = "json"
[pool]
min = 6  # whatever else this machine has to do: two runs of the load below never end
max = 6  # so that some of them wait for a slot
[resources]
database = 2
[hooks.ops]
command = ["true"]
[defaults]
memory = "4MiB"  # so that a slot is what they wait for
"""

JOBS = """
[jobs.tick]
command = ["true"]
cron = "* * * * * *"
[jobs.steady]
command = ["true"]
overlap = "allow"
[jobs.flaky]
shell = "exit 3"
overlap = "allow"
retries = { max = 1, delay = "1s", jitter = 0.0 }
on_failure = ["ops"]
[jobs.stuck]
command = ["sleep", "60"]
overlap = "allow"
timeout = "1s"
[jobs.lost]
command = ["/nonexistent/program"]
overlap = "allow"
[jobs.burn]
command = ["python3", "-c", "import time\\nwhile time.process_time() < 0.4: pass"]
overlap = "allow"
[jobs.long]
command = ["sleep", "600"]
expected = "1s"
[jobs.dump]
command = ["sleep", "600"]
uses = { database = 1 }
[jobs.soon]
command = ["true"]
every = "30m"
[jobs.newyear]
command = ["true"]
cron = "0 0 1 1 *"
"""

ASKED_FOR = {"steady": 25, "flaky": 8, "stuck": 3, "lost": 3, "burn": 3, "long": 4, "dump": 1}
SKIPPED = {("long", "overlap"): 3}  # three of the four
UNDER_WAY = {"long", "dump"}
ENDED = {
    ("steady", "succeeded"): 25,
    ("flaky", "failed"): 8,
    ("stuck", "timed_out"): 3,
    ("lost", "failed_to_start"): 3,
    ("burn", "succeeded"): 3,
}


class Scraped:
    """Both targets, scraped; the load is over, but for two runs that go on."""

    def __init__(self, folder: Path) -> None:
        self.daemon = Daemon(folder / "daemon", JOBS, SETTINGS + '[http]\nlisten = "127.0.0.1:0"\n')
        self.made_up = MadeUp()
        self.prometheus = Prometheus(folder)

    def open(self) -> None:
        """Start all of it; when this returns, Prometheus has seen how the load ended."""
        self.daemon.start()
        address = self.daemon.wait_for("http.listening")["message"].split("/")[2]
        self.daemon.port = int(address.rsplit(":", 1)[1])
        self.prometheus.start({DAEMON: address, MADE_UP: f"127.0.0.1:{self.made_up.port}"})
        until(lambda: len(self.query("up == 1")) == 2, what="both targets are scraped")
        self._load()
        until(lambda: self.counted() == self.finished(), what="the last scrape has it all")

    def _load(self) -> None:
        ticks = len(self.daemon.seen("run.finished", job="tick"))
        for job, count in ASKED_FOR.items():
            for _ in range(count):
                self.post(f"/api/v1/jobs/{job}/runs")
        self.daemon.wait_for("run.finished", count=ticks + 3, job="tick")
        self.post("/api/v1/jobs/tick/pause")
        count = sum(ENDED.values())
        until(
            lambda: sum(n for (job, _), n in self.finished().items() if job != "tick") == count,
            wait_s=LOAD_S,
            what="all have ended",
        )
        until(lambda: self.daemon.metric('tidegate_runs_running{job_name="tick"}') == 0, what="tick is paused")

    def finished(self) -> Counter[tuple[str, str]]:
        """Ended runs by job and outcome, as the daemon's log has them."""
        return Counter((record["job"], record["outcome"]) for record in self.daemon.seen("run.finished"))

    def counted(self) -> Counter[tuple[str, str]]:
        """The same, as Prometheus has them."""
        rows = self.query(f'tidegate_runs_total{{instance="{DAEMON}"}} > 0')
        return Counter({(labels["job_name"], labels["outcome"]): int(value) for labels, value in rows})

    def query(self, expression: str) -> list[Row]:
        """What it answers now."""
        return self.prometheus.query(expression)

    def post(self, path: str) -> None:
        """To the control socket."""
        connection = http.client.HTTPConnection("localhost", timeout=20)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(self.daemon.runtime / "tidegate.sock"))
        connection.request("POST", path)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        assert answer.status < 300 or '"skip":"overlap"' in body.replace(" ", ""), (path, answer.status, body)

    def close(self) -> None:
        """Leave nothing behind."""
        self.prometheus.close()
        self.made_up.close()
        self.daemon.clean_up()


class Prometheus:
    """A server of its own, with the packaged rules."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._address = f"127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, targets: dict[str, str]) -> None:
        """Scrape these: instance → address."""
        config = {
            "global": {"scrape_interval": f"{SCRAPE_S * 1000:.0f}ms", "evaluation_interval": "1s"},
            "rule_files": [str(PACKAGED / "tidegate.rules.yml"), str(HERE / "jobs.rules.yml")],
            "scrape_configs": [
                {
                    "job_name": "tidegate",
                    "static_configs": [
                        {"targets": [address], "labels": {"instance": name}} for name, address in targets.items()
                    ],
                }
            ],
        }
        path = self._folder / "prometheus.yml"
        path.write_text(json.dumps(config))  # JSON is YAML
        self._log = (self._folder / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={path}",
                f"--storage.tsdb.path={self._folder / 'tsdb'}",
                f"--web.listen-address={self._address}",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._log,
        )
        until(self._answers, what="Prometheus answers")

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "prometheus.log").read_text()
        try:
            with urllib.request.urlopen(f"http://{self._address}/-/ready", timeout=20) as answer:
                return bool(answer.status == 200)
        except OSError:  # not listening yet, or 503: not ready yet
            return False

    def get(self, name: str, **parameters: str) -> Any:
        """`data` of an answer of its API."""
        url = f"http://{self._address}/api/v1/{name}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, expression: str) -> list[Row]:
        """An instant query, in the order of the answer."""
        result = self.get("query", query=expression)["result"]
        return [
            ({key: text for key, text in one["metric"].items() if key != "__name__"}, float(one["value"][1]))
            for one in result
        ]

    def alerts(self) -> set[tuple[str, str, str, str]]:
        """Firing now: alert, instance, job_name, severity."""
        return {
            (*(one["labels"].get(key, "") for key in ("alertname", "instance", "job_name", "severity")),)
            for one in self.get("alerts")["alerts"]
            if one["state"] == "firing"
        }

    def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._log.close()


class MadeUp:
    """Metrics of a daemon that goes through everything, one more of each thing between two scrapes."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._scrapes = 0
        self._metrics = Metrics(
            "made-up",
            pool=lambda: (4, 3, 2),
            next_fires=lambda: {"x": datetime.now(UTC).timestamp() + 60},
            logs_dropped=lambda: self._scrapes,
            resources=lambda: {"gpu": (4, 1)},
            hook_deliveries=lambda: {("ops", "failed"): self._scrapes, ("ops", "delivered"): self._scrapes},
            blocked_s=lambda: {"memory": SCRAPE_S / 2 * self._scrapes},
            pressures=lambda: {"cpu": 0.5, "memory": 0.2, "io": 0.1},
        )
        self._metrics.load(Plan(jobs={"x": Job(name="x", command=("true",), expected_s=60.0)}), datetime.now(UTC))
        made_up = self

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = made_up.exposition()
                self.send_response(200)
                self.send_header("content-type", "text/plain; version=0.0.4")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def exposition(self) -> bytes:
        """As of now; then everything happens once more."""
        with self._lock:
            self._happen()
            self._scrapes += 1
            return b"".join(self._metrics.render())

    def _happen(self) -> None:
        self._run(Fact.RUN_FROZEN, end=False)
        self._run(Fact.RUN_EVICTED)
        self._run(Fact.RUN_STOPPING)
        now = datetime.now(UTC)
        skipped = Run(run_id="s", job="x", scheduled_at=now, queued_at=now, state=State.SKIPPED, skip=Skip.OVERLAP)
        for record in (
            Record(fact=Fact.RUN_SKIPPED, at=now, job="x", run=skipped),
            Record(fact=Fact.POOL_RESIZED, at=now, resize=Resize(4, 6, "growth")),
            Record(fact=Fact.POOL_RESIZED, at=now, resize=Resize(6, 4, "cpu")),
            Record(fact=Fact.MEMORY_TIER, at=now, tier=2),
        ):
            self._metrics.observe(record)
        self._metrics.loop_lag(0.002)
        self._metrics.history_written(0.002)
        self._metrics.history_failing("disk full")
        self._metrics.history_failing("")
        self._metrics.reload_outcome(True, now)

    def _run(self, fact: Fact, end: bool = True) -> None:
        now = datetime.now(UTC)
        name = f"r{next(self._numbers)}"
        of = Run(run_id=name, job="x", scheduled_at=now, queued_at=now, state=State.RUNNING, catch_up=end)
        for each in (Fact.RUN_QUEUED, Fact.RUN_STARTING, fact):
            self._metrics.observe(Record(fact=each, at=now, job="x", run=of, lateness_s=0.01, wait_s=0.02))
        if end:
            ended = Run(
                run_id=name, job="x", scheduled_at=now, queued_at=now, state=State.FINISHED,
                outcome=Outcome.KILLED_FOR_MEMORY, duration_s=2.0, usage=Usage(1.5, 1 << 20),
            )  # fmt: skip
            self._metrics.observe(Record(fact=Fact.RUN_FINISHED, at=now, job="x", run=ended))

    def close(self) -> None:
        """End it."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
