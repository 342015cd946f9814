"""`make bench`: measure everything, or the scenarios that are named, and print one table.

Where there are results of an earlier run, the scenarios that are named replace theirs in it.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from benchmarks import chart, machine, peers, report
from benchmarks.places import Place
from benchmarks.results import Results, from_json, to_json
from benchmarks.scenarios import (
    Bench,
    aside,
    backlog,
    calls,
    component,
    database,
    drain,
    enqueue,
    instances,
    large,
    latency,
    library,
    sizes,
    start,
)

SCENARIOS: dict[str, Callable[[Bench], None]] = {
    # What makes files comes before what deletes them, see places.spread_out.
    "start": start.run_start,
    "latency": latency.run_latency,
    "idle": latency.run_idle,
    "calls": calls.run_calls,
    "enqueue": enqueue.run_enqueue,
    "delete": drain.run_delete,
    "move": drain.run_move,
    "others": drain.run_others,
    "library": library.run_library,
    "sync": drain.run_sync,
    "component": component.run_component,
    "instances": instances.run_instances,
    "backlog": backlog.run_backlog,
    "aside": aside.run_aside,
    "sizes": sizes.run_sizes,
    "large": large.run_large,
    "database": database.run_database,
}


def options(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("scenario", nargs="*", help=f"by default all: {', '.join(SCENARIOS)}")
    parser.add_argument("--rounds", type=int, default=5, help="alternating rounds (default: %(default)s)")
    parser.add_argument("--messages", type=int, default=20_000, help="of a drain (default: %(default)s)")
    parser.add_argument("--backlog", type=int, default=1_000_000, help="messages that wait (default: %(default)s)")
    parser.add_argument("--instances", default="1,2,4,8", help="that share a queue (default: %(default)s)")
    parser.add_argument("--tmpfs", type=Path, default=Path("/dev/shm"), help="(default: %(default)s)")
    parser.add_argument("--disk", type=Path, default=peers.BUILT / "disk", help="(default: %(default)s)")
    parser.add_argument("--places", default="tmpfs,disk", help="where to measure (default: %(default)s)")
    parser.add_argument("--json", type=Path, default=peers.BUILT / "results.json", help="(default: %(default)s)")
    parser.add_argument("--alone", action="store_true", help="without the peers that have to be installed")
    found = parser.parse_args(argv)
    unknown = set(found.scenario) - SCENARIOS.keys()
    if unknown:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    if not set(found.places.split(",")) <= {"tmpfs", "disk"}:
        parser.error(f"no such place among {found.places}; there are tmpfs and disk")
    return found


def save(results: Results, path: Path) -> None:
    """Write the results as JSON, and a chart beside them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(to_json(results), indent=1) + "\n")
    path.with_suffix(".svg").write_text(chart.svg(results))


def main(argv: list[str] | None = None) -> int:
    given = options(argv)
    if not given.alone:
        peers.install()
    peers.build_floor()
    peers.unpack_earlier()
    places = {"tmpfs": Place("tmpfs", given.tmpfs), "disk": Place("disk", given.disk, durable=True)}
    bench = Bench(
        rounds=given.rounds,
        messages=given.messages,
        backlog=given.backlog,
        instances=tuple(int(number) for number in given.instances.split(",")),
        places=[places[name] for name in given.places.split(",")],
        alone=given.alone,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    described = machine.describe({place.name: place.directory for place in bench.places})
    told = {"rounds": given.rounds, "messages": given.messages, "backlog": given.backlog}
    results = found = Results(described, told, bench.series, bench.goals, bench.calls)
    earlier = from_json(json.loads(given.json.read_text())) if given.scenario and given.json.exists() else None
    if earlier and earlier.options != told:
        sys.exit(f"{given.json} is of a run with other options, {earlier.options}; name another one with --json")
    for name in given.scenario or SCENARIOS:
        SCENARIOS[name](bench)
        results = found.over(earlier) if earlier else found
        save(results, given.json)  # what was measured is kept if the rest is not
    report.show(results, Console(width=None if sys.stdout.isatty() else 160, highlight=False))
    print(f"{given.json}, and a chart beside it", file=sys.stderr)
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that nothing is left on the disk
    sys.exit(main())
