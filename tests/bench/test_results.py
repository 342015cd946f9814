"""What is made of the values that were measured: medians, ratios, verdicts, tables, a chart, a page."""

from __future__ import annotations

import dataclasses
import json
import xml.etree.ElementTree as ElementTree

import pytest

from benchmarks import chart, page, report
from benchmarks.peers import Report
from benchmarks.results import Bound, Results, Series, Spread, from_json, ratios, to_json
from benchmarks.rounds import alternate, order
from benchmarks.scenarios.calls import parse, per_message
from benchmarks.scenarios.instances import Shared, count_failed
from benchmarks.scenarios.latency import percentile
from benchmarks.sizing import Model


def test_each_round_begins_with_another_contestant() -> None:
    turns: list[str] = []
    found = alternate({name: lambda name=name: turns.append(name) or len(turns) for name in "abc"}, 3)
    assert "".join(turns) == "abcbcacab"
    assert found == {"a": [1, 6, 8], "b": [2, 4, 9], "c": [3, 5, 7]}
    assert order([], 1) == []


def test_spread_is_median_lowest_and_highest() -> None:
    assert Spread.of([5, 1, 3]) == Spread(3, 1, 5)
    assert Spread.of([1, 2, 3, 10]).median == 2.5
    with pytest.raises(ValueError, match="no values"):
        Spread.of([])


def test_ratios_are_taken_round_by_round() -> None:
    assert ratios([2, 9], [1, 3]) == [2, 3]
    with pytest.raises(ValueError, match="shorter"):
        ratios([2, 9], [1])


@pytest.mark.parametrize(
    ("bound", "value", "reached"),
    [
        (Bound(1.3), 1.3, True),
        (Bound(1.3), 1.29, False),
        (Bound(0.3, at_most=True), 0.3, True),
        (Bound(0.3, at_most=True), 0.31, False),
    ],
)
def test_a_bound_is_reached_by_its_limit_and_not_beyond(bound: Bound, value: float, reached: bool) -> None:
    assert bound.reached(value) is reached


def test_verdict_follows_the_median_and_says_what_was_not_measured(results: Results) -> None:
    assert [results.verdict(goal) for goal in results.goals] == ["reached", "not reached", "reached", "not measured"]
    assert results.measured(results.goals[0]) == Spread(2.0, 2.0, 2.2)


def test_ratio_by_processor_time_is_the_other_way_round(results: Results) -> None:
    assert results.cpu_ratio(results.goals[0]) == 2.5
    assert results.cpu_ratio(results.goals[2]) is None


def test_results_come_back_from_json_as_they_were(results: Results) -> None:
    assert from_json(json.loads(json.dumps(to_json(results)))) == results


def test_a_rate_leaves_out_the_time_before_the_clock_starts() -> None:
    found = Report(messages=10, began=100.0, ended=102.0, user=1e-4, system=1e-4, first=1.0)
    assert (found.rate, found.rate_from_first) == (5, 10)
    assert found.cpu == pytest.approx(20)


def test_instances_count_together_from_the_first_start_to_the_last_end() -> None:
    shared = Shared([Report(30, 1.0, 4.0, 1, 1), Report(10, 2.0, 6.0, 1, 1)])
    assert shared.together == Report(40, 1.0, 6.0, 2, 2)
    assert shared.unevenness == 3
    assert Shared([Report(30, 1.0, 4.0, 1, 1), Report(0, 2.0, 2.0, 1, 1)]).unevenness == 30


def test_goal_rows_say_what_was_measured_and_what_was_to_be(results: Results) -> None:
    rows = [report.goal_row(results, goal) for goal in results.goals]
    assert rows[0] == ["of the original", "tmpfs", "2.00 (2.00 to 2.20) x", "2.50 x", "at least 1.30 x", "reached"]
    assert rows[2] == ["start", "tmpfs", "0.25 (0.20 to 0.90) s", "", "at most 0.30 s", "reached"]
    assert rows[3] == ["of nobody", "tmpfs", "", "", "at least 1.00 x", "not measured"]


def test_scenarios_that_are_measured_again_replace_theirs(results: Results) -> None:
    again = dataclasses.replace(results.series[0], values=[7.0])
    found = Results({}, results.options, [again], [], {"piperkit/delete": {"flock": 2.0}}).over(results)
    assert found.series == [again, *results.series[1:]]
    assert found.goals == results.goals
    assert found.calls == {**results.calls, "piperkit/delete": {"flock": 2.0}}
    assert found.machine == results.machine


def test_numbers_keep_three_digits() -> None:
    assert [report.number(value) for value in (36612.4, 361.2, 49.44, 1.304, 0.05)] == [
        "36,612", "361", "49.4", "1.30", "0.05"]  # fmt: skip


def test_calls_are_the_difference_of_two_counts() -> None:
    few = parse("syscall     calls\n------- ---\nopenat  900\nflock   10\n------\ntotal   910\n")
    assert few == {"openat": 900, "flock": 10}
    many = {"openat": 2900, "flock": 1010, "brk": 3}
    assert per_message(few, many, messages=1000) == {"openat": 2.0, "flock": 1.0}


def test_call_table_has_a_sum(results: Results) -> None:
    headings, rows = report.call_rows(results)
    assert headings == ["call", "piperkit/delete", "C floor/delete"]
    assert rows == [["flock", "1", ""], ["openat", "2", "1"], ["all", "3", "1"]]


def test_failed_claims_are_failing_calls_at_incoming() -> None:
    trace = (
        '7 openat(5</q/incoming>, "a", O_RDONLY) = -1 ENOENT (No such file or directory)\n'
        "7 flock(9</q/incoming/b>, LOCK_EX|LOCK_NB) = -1 EAGAIN (Resource temporarily unavailable)\n"
        '7 openat(AT_FDCWD</>, "/q/state/c", O_RDONLY) = -1 ENOENT (No such file or directory)\n'
        '7 renameat2(AT_FDCWD</>, "/q/incoming/d", AT_FDCWD</>, "/q/pending/d", RENAME_NOREPLACE) = -1 ENOENT\n'
        "7 --- SIGINT {si_signo=SIGINT} ---\n"
    )
    assert count_failed(trace) == 3


def test_percentile_is_a_value_that_was_measured() -> None:
    values = [float(number) for number in range(1, 101)]
    assert percentile(values, 99) == 99
    assert percentile([4.0], 99) == 4


def test_chart_is_an_image_with_a_bar_for_each_contestant(results: Results) -> None:
    root = ElementTree.fromstring(chart.svg(results))
    space = "{http://www.w3.org/2000/svg}"
    texts = [each.text for each in root.iter(f"{space}text")]
    assert texts[0] == "One daemon drains a queue: delete, tmpfs (messages/s)"
    assert texts[1:] == ["piperkit", "200", "original", "100", "C floor", "400"]
    _, ours, original, floor = (float(each.attrib["width"]) for each in root.iter(f"{space}rect"))
    assert ours == pytest.approx(2 * original, abs=0.2) == pytest.approx(floor / 2, abs=0.2)


@pytest.mark.parametrize(
    ("cores", "disks", "daemons", "instances", "rate"),
    [
        (4, 1, 1, 1, 10_000),  # one instance works or waits
        (1, 4, 1, 8, 20_000),  # all wait for the core
        (8, 1, 1, 8, 20_000),  # all wait for the disk
        (8, 4, 2, 8, 40_000),  # two daemons share what there is
    ],
)
def test_sizing_follows_what_is_scarcest(cores: int, disks: int, daemons: int, instances: int, rate: float) -> None:
    assert Model(cpu=50, wait=50).rate(cores, disks, daemons, instances) == pytest.approx(rate)


def test_sizing_takes_what_a_daemon_was_measured_to_take(results: Results) -> None:
    assert Model.of(results) is None
    series = Series("sync", "disk", "batch", "messages/s", [10_000.0], [40.0])
    model = Model.of(dataclasses.replace(results, series=[series]))
    assert model == Model(cpu=40, wait=pytest.approx(60))
    assert model.instances_a_core == 3


def test_blocks_of_the_page_are_made_anew_and_prose_is_kept(results: Results) -> None:
    found = page.render("Before.\n\n<!-- goals -->\nold\n<!-- end -->\n\nAfter.\n", results)
    assert found.startswith("Before.\n\n<!-- goals -->\n| what | where |")
    assert found.endswith("| not measured |\n<!-- end -->\n\nAfter.\n")
    assert "old" not in found
    assert page.render(found, results) == found


def test_page_and_chart_agree_with_the_figures_that_are_kept() -> None:
    results = from_json(json.loads(page.DATA.read_text()))
    told = "make bench-docs writes the figures into the page"
    assert page.render(page.PAGE.read_text(), results) == page.PAGE.read_text(), told
    assert chart.svg(results) == page.CHART.read_text(), told


def test_prose_of_the_page_names_no_figure_that_a_run_gives() -> None:
    prose = page._BLOCK.sub("", page.PAGE.read_text())
    assert "messages/s" not in prose
    assert set(page.BLOCKS) == {found[1] for found in page._BLOCK.finditer(page.PAGE.read_text())}
