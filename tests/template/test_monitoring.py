"""The alerts and the dashboard that come with a project: promtool takes them, and its daemon exports what they use."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from needs import need
from template_project import Generate

#: Metric and labels of a selector, and the condition of one label.
SELECTOR = re.compile(r"(piper_\w+)({[^}]*})?")
CONDITION = re.compile(r'(\w+)(=~?)"([^"]*)"')
ALERTS = ("PiperDisk", "PiperDown", "PiperErrors", "PiperOldestMessage", "PiperPaused", "PiperStalled")


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    need("promtool", shutil.which("promtool") is not None, "promtool, from the package prometheus")
    command = ["promtool", *map(str, arguments)]
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)


def rules(project: Path) -> Path:
    return project / "monitoring" / "mydaemon.rules.yml"


def dashboard(project: Path) -> dict[str, Any]:
    found = json.loads((project / "monitoring" / "mydaemon.dashboard.json").read_text())
    assert isinstance(found, dict)
    return found


@pytest.fixture
def exported(generate: Generate, until: Callable[..., None]) -> tuple[Path, dict[str, list[dict[str, str]]]]:
    """A project, and what its daemon exports once it has done some work: the labels of each metric's samples."""
    project = generate()
    process = subprocess.Popen(
        [sys.executable, "-m", "mydaemon", "--no-daemon", "--quiet", "--queue-out-dir=next", "--metrics-address=0"],
        env={**os.environ, "PYTHONPATH": str(project / "src")},
        cwd=project,
    )
    log = project / "var/log/mydaemon.log"
    try:
        until(lambda: log.exists() and "The daemon starts" in log.read_text(), "the daemon")
        (project / "var/spool/mydaemon/incoming/one").write_text("hello")
        until((project / "var/spool/next/incoming/one").exists, "a message")
        (url,) = re.findall(r"Metrics are at (\S+)", log.read_text())
        found: dict[str, list[dict[str, str]]] = {}

        def fetch() -> bool:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=60) as answer:
                for family in text_string_to_metric_families(answer.read().decode()):
                    for sample in family.samples:
                        found.setdefault(sample.name, []).append(sample.labels)
            return "piper_last_processed_timestamp_seconds" in found

        until(fetch, "all metrics")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
    return project, found


def expressions(project: Path) -> list[str]:
    """Every PromQL expression of the alerts and the dashboard."""
    alerts = yaml.safe_load(rules(project).read_text())["groups"][0]["rules"]
    panels = dashboard(project)["panels"]
    return [rule["expr"] for rule in alerts] + [query["expr"] for panel in panels for query in panel["targets"]]


@pytest.mark.slow
def test_alerts_and_dashboard_use_only_what_the_daemon_exports(
    exported: tuple[Path, dict[str, list[dict[str, str]]]],
) -> None:
    project, found = exported
    used = [selector for expression in expressions(project) for selector in SELECTOR.findall(expression)]
    assert {name for name, _ in used} <= found.keys()
    assert len({name for name, _ in used}) > 12
    for name, labels in used:
        conditions = CONDITION.findall(labels)
        assert ("daemon", "=", "mydaemon") in conditions
        for label, kind, value in conditions:
            if label == "instance":
                continue  # is Prometheus' own
            for each in value.split("|") if kind == "=~" else [value]:
                assert each in {sample[label] for sample in found[name]}, (name, label, each)


@pytest.mark.slow
def test_what_the_dashboard_shows_as_a_label_is_one(exported: tuple[Path, dict[str, list[dict[str, str]]]]) -> None:
    project, found = exported
    for panel in dashboard(project)["panels"]:
        for query in panel["targets"]:
            (name, _), *_ = SELECTOR.findall(query["expr"])
            assert set(re.findall(r"{{(\w+)}}", query["legendFormat"])) <= {*found[name][0], "instance"}


def test_panels_of_the_dashboard_stand_side_by_side(generate: Generate) -> None:
    found = dashboard(generate())
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in found["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) == 23
    assert len({panel["id"] for panel in found["panels"]}) == len(found["panels"])


def test_promtool_finds_nothing_wrong_with_the_alerts(generate: Generate) -> None:
    done = promtool("check", "rules", rules(generate(description="Doesn't lose 50 % of {{ anything }}")))
    assert done.returncode == 0, done.stdout
    assert f"SUCCESS: {len(ALERTS)} rules found" in done.stdout


QUEUE = 'daemon="mydaemon",queue="input",part="{}"'
AGE = f"piper_queue_oldest_message_age_seconds{{{QUEUE.format('incoming')}}}"
WAITING = f"piper_queue_messages{{{QUEUE.format('incoming')}}}"
PENDING = f"piper_queue_messages{{{QUEUE.format('pending')}}}"
IN_WORK = 'piper_claims{daemon="mydaemon",state="in_work"}'
ERRORS = f"piper_queue_messages{{{QUEUE.format('errors')}}}"
DONE = 'piper_messages_total{daemon="mydaemon",outcome="committed"}'
RETRIED = 'piper_messages_total{daemon="mydaemon",outcome="retried"}'
AVAILABLE = 'piper_queue_filesystem_avail_bytes{daemon="mydaemon",queue="input"}'
SIZE = 'piper_queue_filesystem_size_bytes{daemon="mydaemon",queue="input"}'
MTIME = 'node_textfile_mtime_seconds{{file="/var/lib/node/{}.prom"}}'
PAUSED = 'piper_paused{daemon="mydaemon",reason="operator"}'
FULL = 'piper_paused{daemon="mydaemon",reason="disk_full"}'


@pytest.mark.slow
@pytest.mark.parametrize(
    ("alert", "series", "minute", "fires"),
    [
        # It never was there, it has ended, it is there; its file is not written any more, or is.
        ("PiperDown", {DONE.replace("my", "your"): "0x60"}, 30, True),
        ("PiperDown", {IN_WORK: "0x10 _x50"}, 30, True),
        ("PiperDown", {IN_WORK: "0x60"}, 30, False),
        ("PiperDown", {IN_WORK: "0x60", MTIME.format("mydaemon"): "0+60x10 600x50"}, 30, True),
        ("PiperDown", {IN_WORK: "0x60", MTIME.format("mydaemon.2"): "0+60x10 600x50"}, 30, True),
        ("PiperDown", {IN_WORK: "0x60", MTIME.format("mydaemon"): "0+60x60"}, 30, False),
        ("PiperDown", {IN_WORK: "0x60", MTIME.format("notmydaemon"): "0+60x10 600x50"}, 30, False),
        # A message that waits, one that does not, and one that did until now.
        ("PiperOldestMessage", {AGE: "0+60x60"}, 30, True),
        ("PiperOldestMessage", {AGE: "100x60"}, 30, False),
        ("PiperOldestMessage", {AGE: "0+60x28 0x30"}, 30, False),
        # A new dead letter, one that was there all the time, and one that is old news.
        ("PiperErrors", {ERRORS: "2x19 3x40"}, 25, True),
        ("PiperErrors", {ERRORS: "2x60"}, 25, False),
        ("PiperErrors", {ERRORS: "2x19 3x40"}, 50, False),
        # Messages wait and nothing is done; something is done, or nothing waits; another daemon works.
        ("PiperPaused", {PAUSED: "1x120"}, 90, True),
        ("PiperPaused", {PAUSED: "1x30 0x90"}, 90, False),
        ("PiperPaused", {PAUSED.replace("operator", "output_full"): "1x120"}, 90, False),
        ("PiperStalled", {WAITING: "3x60", DONE: "5x60", RETRIED: "0x60"}, 30, True),
        ("PiperStalled", {WAITING: "3x60", DONE: "5x60", RETRIED: "0+1x60"}, 30, False),
        ("PiperStalled", {WAITING: "0x60", DONE: "5x60", RETRIED: "0x60"}, 30, False),
        ("PiperStalled", {WAITING: "3x60", DONE: "5x60", DONE.replace("my", "your"): "0+1x60"}, 30, True),
        # It stands still since an operator wants that.
        ("PiperStalled", {WAITING: "3x60", DONE: "5x60", RETRIED: "0x60", PAUSED: "1x60"}, 30, False),
        # It hangs in one message, or another instance has all of them in work.
        ("PiperStalled", {WAITING: "0x60", IN_WORK: "1x60", DONE: "5x60"}, 30, True),
        ("PiperStalled", {WAITING: "0x60", IN_WORK: "0x60", PENDING: "9x60", DONE: "5x60"}, 30, False),
        # Little space, enough of it, and enough of it but not for what the daemon leaves free.
        ("PiperDisk", {AVAILABLE: "5x60", SIZE: "100x60", FULL: "0x60"}, 30, True),
        ("PiperDisk", {AVAILABLE: "50x60", SIZE: "100x60", FULL: "0x60"}, 30, False),
        ("PiperDisk", {AVAILABLE: "50x60", SIZE: "100x60", FULL: "1x60"}, 30, True),
    ],
)
def test_alert_fires_when_it_should_and_not_otherwise(
    generate: Generate, alert: str, series: dict[str, str], minute: int, fires: bool
) -> None:
    project = generate()
    (group,) = yaml.safe_load(rules(project).read_text())["groups"]
    assert tuple(sorted(rule["alert"] for rule in group["rules"])) == ALERTS
    # Only what fires is told: so the test is of its name, and of no text.
    expression = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})'
    test = {
        "rule_files": [str(rules(project))],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in series.items()],
                "promql_expr_test": [
                    {
                        "expr": expression,
                        "eval_time": f"{minute}m",
                        "exp_samples": [{"labels": "{}", "value": 1}] if fires else [],
                    }
                ],
            }
        ],
    }
    path = project / "test.yml"
    path.write_text(yaml.safe_dump(test))
    done = promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("metrics", [True, False])
def test_a_project_without_metrics_needs_no_library_for_them(generate: Generate, metrics: bool) -> None:
    project = generate(metrics=metrics)
    for file in ("pyproject.toml", "Makefile", "README.md"):
        assert ("metrics" in (project / file).read_text() or "monitoring" in (project / file).read_text()) is metrics
