"""Scrape: how much /metrics, read without a pause, moves the lateness of fires with 10,000 jobs loaded."""

import http.client
import subprocess
import sys
import time

from tests.bench import jobs
from tests.bench.bench import Bench
from tests.bench.daemon import Tidegate
from tests.bench.fetch import say
from tests.bench.ground import Missed
from tests.bench.parts.reload import stamping_jobs
from tests.bench.stats import Stamp, lateness_ms, read_stamps

JOBS = 10_000
STAMPING = 20
SPAN_S = 15
KINDS = {"quiet": "", "scraped": "identity", "scraped, gzip as Prometheus asks for": "gzip"}
# a process of its own, as Prometheus is; it only reads and counts
SCRAPER = """
import http.client, sys, time
port, span_s, encoding = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
end_s = time.monotonic() + span_s
count = size = 0
took_s = []
while time.monotonic() < end_s:
    begin_s = time.monotonic()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics", headers={"Accept-Encoding": encoding})
    body = connection.getresponse().read()
    connection.close()
    took_s.append(time.monotonic() - begin_s)
    count, size = count + 1, len(body)
print(count, size, sorted(took_s)[len(took_s) // 2])
"""


def scrape(port: int, span_s: float, encoding: str) -> dict[str, float | str]:
    done = subprocess.run(
        [sys.executable, "-c", SCRAPER, str(port), str(span_s), encoding], capture_output=True, text=True, check=True
    )
    count, size, took_s = done.stdout.split()
    return {"encoding": encoding, "scrapes": int(count), "bytes": int(size), "scrape_s_p50": round(float(took_s), 4)}


def first_scrape(port: int) -> None:
    """Unmeasured: whatever is imported or built once."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/metrics")
    connection.getresponse().read()
    connection.close()


def late_in(spans: list[tuple[str, float, float]], stamps: list[Stamp], per_s: int) -> dict[str, list[list[float]]]:
    """Kind → its spans → the latenesses in each, ms, rising. A span is (kind, begin, end) in wall seconds."""
    late: dict[str, list[list[float]]] = {}
    for kind, begin_s, end_s in spans:
        inside = [stamp for stamp in stamps if begin_s <= stamp[0] / 1e9 < end_s]
        if len(inside) < per_s * (end_s - begin_s - 1):
            raise Missed(f"{kind}: only {len(inside)} fires in {end_s - begin_s:.0f} s, of {per_s} each second")
        late.setdefault(kind, []).append([round(value, 2) for value in sorted(lateness_ms(inside))])
    return late


def measure(bench: Bench) -> dict[str, object]:
    if not bench.tools.tidegate:
        return {}
    stamps = bench.ground.folder("stamps") / "stamps"
    text = jobs.idle_jobs(JOBS) + stamping_jobs(bench.tools.stamp, stamps, STAMPING)
    span_s = bench.amount(SPAN_S, 5)
    spans: list[tuple[str, float, float]] = []
    scrapes = []
    with Tidegate(bench.ground, bench.tools.tidegate, text) as daemon:
        first_scrape(daemon.port)
        time.sleep(2.0)
        for turn in range(bench.rounds(usual=3)):
            for kind, encoding in KINDS.items():
                say(f"bench: scrape, round {turn + 1}: {kind} for {span_s} s")
                begin_s = time.time()
                if encoding:
                    scrapes.append(scrape(daemon.port, span_s, encoding))
                else:
                    time.sleep(span_s)
                spans.append((kind, begin_s, time.time()))
                time.sleep(0.5)
    late = late_in(spans, read_stamps(stamps), STAMPING)
    return {"jobs": JOBS, "stamping": STAMPING, "span_s": span_s, "late_ms": late, "scrapes": scrapes}
