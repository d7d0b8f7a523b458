"""Pool: how long loads of all kinds take, beside the best fixed size, the 80 % rule and GNU parallel."""

import os

from msgspec.structs import replace
from tests.bench.bench import Bench
from tests.bench.pool import loads, makespans
from tests.bench.pool.contenders import SLOTS_PER_CORE

Raw = dict[str, object]


def measure(bench: Bench) -> Raw:
    """Less of everything than with --full, and only the sizes that came near the best there."""
    full, quick = bench.full, bench.quick
    cpu = loads.cpu(200 if full else 8 if quick else 24, 0.5)
    sleep = loads.sleep(200 if quick else 1000, 1.0)
    mixed = loads.mixed(400 if full else 30 if quick else 100, 1.0)
    processes = loads.cpu(200 if full else 8 if quick else 24, 0.5)
    if not full:
        cpu, processes = replace(cpu, sizes=(2, 3)), replace(processes, sizes=(2, 3))
        sleep, mixed = replace(sleep, sizes=(32,)), replace(mixed, sizes=(12,) if quick else (8, 12, 16))
    most = SLOTS_PER_CORE * (os.cpu_count() or 1)
    return {
        "cpu": makespans.measure(bench, cpu, naive=True, load_rule=full, parallel=True),
        "processes": makespans.measure_processes(bench, processes),
        "sleep": makespans.measure(
            bench, sleep, naive=full, load_rule=True, parallel=full, beyond=most if full else None
        ),
        "mixed": makespans.measure(bench, mixed, naive=True, load_rule=full, parallel=full),
    }
