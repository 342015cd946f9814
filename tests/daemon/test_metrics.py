"""What a running daemon tells Prometheus, and how it gets there."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

import apps
from needs import need
from piperkit.dirq import DirectoryQueue
from piperkit.testing import Piper
from written import log

Start = Callable[..., "subprocess.Popen[str]"]
Call = Callable[..., "subprocess.CompletedProcess[str]"]
Until = Callable[..., None]
Samples = dict[tuple[str, ...], float]

HTTP = "--metrics-address=0"


def urls(piper: Piper) -> list[str]:
    """Where the daemons of this log say that their metrics are."""
    return re.findall(r"Metrics are at (\S+)", log(piper))


def fetch(url: str) -> str:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=60) as answer:
        return str(answer.read().decode())


def samples(text: str) -> Samples:
    """Values by name, queue and part, or another label; without those labels that all have."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sorted(sample.labels.keys() - {"daemon", "process"}, reverse=True)
            found[(sample.name, *(sample.labels[label] for label in labels))] = sample.value
    return found


def check(text: str) -> None:
    """As promtool sees it."""
    need("promtool", shutil.which("promtool") is not None, "promtool, from the package prometheus")
    done = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.fixture
def scrape(piper: Piper, until: Until) -> Callable[[], Samples]:
    """What the daemon that serves metrics says now."""

    def run() -> Samples:
        until(lambda: urls(piper), "metrics")
        return samples(fetch(urls(piper)[-1]))

    return run


@pytest.mark.slow
def test_slow_and_many_clients_do_not_keep_others_from_metrics(
    piper: Piper, start: Start, until: Until, scrape: Callable[[], Samples]
) -> None:
    constants = {"piperkit.daemon.exposition._CLIENT_TIMEOUT": 0.5}
    start("upper", HTTP, constants=constants)
    until(lambda: urls(piper), "metrics")
    address = urls(piper)[0].split("/")[2].split(":")
    with contextlib.ExitStack() as clients:
        for _ in range(30):
            clients.enter_context(socket.create_connection((address[0], int(address[1])))).send(b"GET")

        def answered() -> bool:
            try:
                return bool(scrape())
            except OSError:
                return False  # turned away, as long as the others take

        until(answered, "an answer")
    assert len(os.listdir(f"/proc/{daemon_pid(piper)}/task")) < 30


def daemon_pid(piper: Piper) -> int:
    return int((piper.directory / "daemon.pid").read_text())


def test_metrics_count_what_was_done(piper: Piper, start: Start, until: Until, scrape: Callable[[], Samples]) -> None:
    began = time.time()
    DirectoryQueue(piper.directory / "other")
    piper.put("a", "b", f"copy {piper.directory}/other", "cancel it", "reject it", "retry 1000")
    piper.put(f"dispatch {piper.directory}/other", b"\xff")
    start("upper", HTTP, "--queue-out-limit=50")
    until(lambda: piper.counts() == {**dict.fromkeys(piper.counts(), 0), "errors": 2, "deferred": 1}, "the work")
    until(lambda: scrape()["piper_messages_total", "banished"] == 2, "the last message")
    found = scrape()
    outcomes = {"committed": 3, "canceled": 1, "dispatched": 1, "banished": 2, "retried": 1}
    outcomes |= {"postponed": 0, "returned": 0}
    assert {key[1]: value for key, value in found.items() if key[0] == "piper_messages_total"} == outcomes
    assert found["piper_messages_claimed_total",] == 8
    assert found["piper_attempts_total",] == 7  # no component is given what is not UTF-8
    assert found["piper_messages_duplicated_total",] == 1
    assert found["piper_messages_updated_total",] == 3
    assert found["piper_processing_seconds_count",] == 7
    assert found["piper_processing_seconds_bucket", "+Inf"] == 7
    assert found["piper_processing_seconds_sum",] > 0
    assert (found["piper_claims", "in_work"], found["piper_claims", "waiting"]) == (0, 0)
    assert found["piper_queue_messages", "input", "errors"] == 2
    assert found["piper_queue_messages", "input", "deferred"] == 1
    assert found["piper_queue_messages", "input", "incoming"] == 0
    assert found["piper_queue_messages", "output", "incoming"] == 3
    assert found["piper_queue_oldest_message_age_seconds", "input", "incoming"] == 0
    assert 0 < found["piper_queue_oldest_message_age_seconds", "output", "incoming"] < time.time() - began + 1
    assert began - 1 < found["piper_start_timestamp_seconds",] <= found["piper_last_processed_timestamp_seconds",]
    assert found["piper_queue_limit_messages", "output"] == 50
    assert not [key for key, value in found.items() if key[0] == "piper_paused" and value]
    text = fetch(urls(piper)[-1])
    assert 'piper_messages_total{daemon="upper",outcome="committed"} 3.0' in text
    check(text)
    # The guide explains each of them, and no other; this one is of a daemon without an output queue.
    guide = (Path(__file__).parents[2] / "docs" / "guide.md").read_text()
    families = {family.name for family in text_string_to_metric_families(text)} - {"piper_processing_seconds_created"}
    families.add("piper_latency_seconds")
    assert {name.removesuffix("_total") for name in re.findall(r"piper_[a-z_]+", guide)} == families


def test_time_from_end_to_end_is_told_where_messages_end(
    piper: Piper, start: Start, until: Until, scrape: Callable[[], Samples]
) -> None:
    piper.put("a", "cancel it", "reject it")
    with DirectoryQueue(piper.directory / "in") as queue:
        queue.enqueue("x", f"{time.time() - 100:.9f}.1.host")  # made a while ago, perhaps in another queue
        queue.enqueue("x", "foreign")
    start("upper", HTTP, "--queue-out-dir=")
    until(lambda: not any(number for part, number in piper.counts().items() if part != "errors"), "the work")
    until(lambda: scrape()["piper_latency_seconds_count",] == 3, "the last message")
    found = scrape()
    assert found["piper_latency_seconds_sum",] >= 100
    assert found["piper_latency_seconds_bucket", "60.0"] == 2


def test_metrics_are_there_while_a_component_is_at_work(
    piper: Piper, start: Start, until: Until, scrape: Callable[[], Samples]
) -> None:
    piper.put(*"abc")
    daemon = start("slow", f"--gate={piper.directory}", HTTP)
    until((piper.directory / "begun").exists, "the message in work")
    found = scrape()
    assert (found["piper_claims", "in_work"], found["piper_claims", "waiting"]) == (1, 2)
    assert found["piper_queue_messages", "input", "pending"] == 3
    assert found["piper_queue_oldest_message_age_seconds", "input", "pending"] > 0
    assert ("piper_last_processed_timestamp_seconds",) not in found
    daemon.send_signal(signal.SIGTERM)
    (piper.directory / "go").touch()
    assert daemon.wait(60) == 0


def test_pause_is_told_with_its_reason(piper: Piper, start: Start, until: Until, scrape: Callable[[], Samples]) -> None:
    piper.put(*"abc")
    start("echo", HTTP, "--queue-out-limit=1", "--queue-out-wait=0.02", "--queue-in-wait=0.02")
    until(lambda: scrape()["piper_paused", "output_full"] == 1, "the pause")
    (piper.directory / "out").rename(piper.directory / "away")  # at once: an output queue that empties has room
    until(lambda: scrape()["piper_paused", "output_unavailable"] == 1, "the other pause")
    found = scrape()
    assert found["piper_paused", "output_full"] == 0
    assert found["piper_queue_readable", "output", "incoming"] == 0
    assert ("piper_queue_messages", "output", "incoming") not in found
    assert found["piper_queue_readable", "input", "incoming"] == 1
    assert found["piper_queue_messages", "input", "incoming"] == 2
    DirectoryQueue(piper.directory / "out")
    until(lambda: scrape()["piper_queue_messages", "input", "incoming"] == 1, "the next message")


@pytest.mark.slow
def test_recovered_messages_are_counted(
    piper: Piper, start: Start, until: Until, scrape: Callable[[], Samples]
) -> None:
    piper.put("kill", "a")
    assert start("upper", "--orphan-age=0").wait(60) == -signal.SIGKILL
    start("echo", HTTP, "--orphan-age=0")
    until(lambda: scrape()["piper_messages_recovered_total",] == 2, "the recovery")


def test_metrics_file_is_whole_kept_up_to_date_and_gone_at_the_end(piper: Piper, start: Start, until: Until) -> None:
    path = piper.directory / "metrics" / "upper.prom"
    daemon = start("upper", f"--metrics-file={path}", "--metrics-interval=0.1")
    until(path.exists, "the file")
    piper.put("a", "b")
    until(lambda: samples(path.read_text())["piper_messages_total", "committed"] == 2, "the count")
    check(path.read_text())
    assert path.stat().st_mode & 0o777 == 0o644  # it is another account that reads it
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(60) == 0
    assert os.listdir(path.parent) == []


def test_metrics_file_that_cannot_be_written_is_said_once_and_written_later(
    piper: Piper, start: Start, until: Until
) -> None:
    path = piper.directory / "metrics" / "upper.prom"
    daemon = start("upper", f"--metrics-file={path}", "--metrics-interval=0.1")
    until(path.exists, "the file")
    shutil.rmtree(path.parent)
    until(lambda: "upper.prom cannot be written: No such file" in log(piper), "the complaint")
    path.parent.mkdir()
    until(path.exists, "the file again")
    assert log(piper).count("cannot be written") == 1
    assert daemon.poll() is None


@pytest.mark.slow
def test_instances_have_a_port_and_a_file_each(piper: Piper, start: Start, until: Until) -> None:
    options = ["--paralel", "--metrics-address=21000-29999", f"--metrics-file={piper.directory}/m/echo.prom"]
    daemons = [start("echo", *options) for _ in range(2)]
    until(lambda: len(set(urls(piper))) == 2, "two addresses")
    until(lambda: len(list((piper.directory / "m").glob("*.prom"))) == 2, "two files")
    piper.put(*"abcdef")
    until(lambda: len(piper.out) == 6, "the work")
    counted = ("piper_messages_total", "committed")
    until(lambda: sum(samples(fetch(url))[counted] for url in urls(piper)) == 6, "the counts")
    processes = set(re.findall(r'process="(\w+)"', "".join(fetch(url) for url in urls(piper))))
    assert {path.name for path in (piper.directory / "m").iterdir()} == {f"echo.{each}.prom" for each in processes}
    # A file that a killed instance leaves is removed by the next one.
    daemons[0].kill()
    daemons[0].wait()
    assert len(list((piper.directory / "m").iterdir())) == 2
    (piper.directory / "m" / "echo.notours.prom").touch()
    start("echo", *options)
    until(lambda: len(urls(piper)) == 3, "the third")

    def files() -> set[str]:
        return {path.name for path in (piper.directory / "m").glob("echo.0*.prom")}

    earlier = {f"echo.{each}.prom" for each in processes}
    until(lambda: len(files() & earlier) == 1 and len(files() - earlier) == 1, "the third one's file for the first's")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--metrics-address=localhost", 'metrics_address is "localhost"; it must be PORT, HOST:PORT or [IPV6]:PORT'),
        ("--metrics-address=::1:9464", 'metrics_address is "::1:9464"; it must be PORT'),
        ("--metrics-address=70000", 'metrics_address is "70000"; it must be PORT'),
        ("--metrics-address=20-10", 'metrics_address is "20-10"; it must be PORT'),
        ("--metrics-file=/tmp/metrics", "metrics_file is /tmp/metrics; its name must end in .prom"),
    ],
)
@pytest.mark.slow
def test_wrong_metrics_settings_are_a_wrong_configuration(call: Call, option: str, says: str) -> None:
    done = call("upper", option, "--action=config-check")
    assert done.returncode == 78
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("background", [False, True])
@pytest.mark.slow
def test_address_that_is_taken_ends_the_start_with_one_line(piper: Piper, call: Call, background: bool) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        options = [option for option in piper.options() if not (background and option == "--no-daemon")]
        done = call("upper", *options, "--quiet", f"--metrics-address={address}", alone=True)
    assert done.returncode == 69
    assert f"metrics_address: cannot listen on {address}: Address already in use" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("--metrics-address=192.0.2.1:9464", "metrics_address: cannot listen on 192.0.2.1:9464: Cannot assign"),
        ("--metrics-file=/proc/it.prom", "metrics_file: /proc/it.prom cannot be written: No such file"),
    ],
)
@pytest.mark.slow
def test_metrics_that_cannot_be_had_end_the_start_with_one_line(call: Call, option: str, says: str) -> None:
    done = call("upper", "--quiet", option)
    assert done.returncode == 69
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_metrics_are_served_on_ipv6(piper: Piper, start: Start, scrape: Callable[[], Samples]) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        need("ipv6", probe.connect_ex(("::1", 9)) != 99, "an IPv6 loopback")
    start("upper", "--metrics-address=[::1]:0")
    assert scrape()["piper_messages_total", "committed"] == 0
    assert urls(piper)[0].startswith("http://[::1]:")


@pytest.mark.slow
def test_daemon_without_metrics_does_not_load_the_library(piper: Piper, call: Call) -> None:
    code = "import sys, apps; apps.build('upper', sys.argv[1:]).run_until_idle();"
    code += "print('prometheus_client' in sys.modules)"
    run = [sys.executable, "-c", code, *piper.options("--quiet")]
    directory = os.path.dirname(apps.__file__)
    assert subprocess.run(run, cwd=directory, text=True, capture_output=True, check=True).stdout == "False\n"
    done = subprocess.run([*run, HTTP], cwd=directory, text=True, capture_output=True, check=True)
    assert done.stdout == "True\n"


def test_library_that_is_missing_is_named_with_what_installs_it(piper: Piper) -> None:
    code = "import sys, apps; sys.modules['prometheus_client'] = None; apps.build('upper', sys.argv[1:]).run()"
    run = [sys.executable, "-c", code, *piper.options(HTTP)]
    done = subprocess.run(run, cwd=os.path.dirname(apps.__file__), text=True, capture_output=True, check=False)
    assert done.returncode == 78
    assert "there is no module prometheus_client; pip install 'piperkit[metrics]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_metrics_work_in_a_chroot_and_as_another_user(piper: Piper, tmp_path: Path, until: Until) -> None:
    need("root", os.geteuid() == 0, "root")
    nobody = pwd.getpwnam("nobody").pw_uid
    jail = tmp_path / "jail"
    jail.mkdir()
    options = ["--no-daemon", f"--chroot-dir={jail}", "--user=nobody", "--queue-in-dir=/in", "--log-file=/log/u.log"]
    options += ["--pid-file=/run/u.pid", "--runlog-dir=/run/log", HTTP, "--metrics-file=/metrics/u.prom"]
    code = "import sys, apps; apps.build('upper', sys.argv[1:]).run()"
    daemon = subprocess.Popen([sys.executable, "-c", code, *options], cwd=os.path.dirname(apps.__file__))
    try:
        path = jail / "log/u.log"
        until(lambda: path.exists() and "Metrics are at" in path.read_text(), "metrics")
        (url,) = re.findall(r"Metrics are at (\S+)", path.read_text())
        assert samples(fetch(url))["piper_queue_messages", "input", "incoming"] == 0
        until((jail / "metrics/u.prom").exists, "the file")
        assert (jail / "metrics/u.prom").stat().st_uid == nobody
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(60) == 0
    finally:
        daemon.kill()
        daemon.wait()
