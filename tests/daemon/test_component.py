"""What becomes of a message, for components written the short way and the event way."""

from __future__ import annotations

import functools
import json

import pytest

import apps
from piperkit import Component, ConfigError, Message, Outcome, PiperDaemon, Reject
from piperkit.dirq import DirectoryQueue
from piperkit.dirq.view import QueueView
from piperkit.testing import Piper

upper = functools.partial(apps.build, "upper")


def test_committed_message_goes_to_the_output_queue_with_its_new_contents(piper: Piper) -> None:
    (id,) = piper.put("hello")
    assert piper.run(upper) == 0
    assert piper.out == [b"HELLO"]
    assert [entry.id for entry in QueueView(piper.directory / "out").entries("incoming")] == [id]


def test_committed_message_is_deleted_where_there_is_no_output_queue(piper: Piper) -> None:
    piper.put("hello")
    options = [option for option in piper.options() if not option.startswith("--queue-out-dir")]
    assert upper(options).run_until_idle() == 0
    assert piper.out == []
    assert sum(piper.counts().values()) == 0


def test_cancelled_message_is_deleted(piper: Piper) -> None:
    piper.put("cancel")
    piper.run(upper)
    assert piper.out == []
    assert sum(piper.counts().values()) == 0


def test_dispatched_message_goes_to_the_queue_that_the_component_names(piper: Piper) -> None:
    DirectoryQueue(piper.directory / "other")
    piper.put(f"dispatch {piper.directory}/other", f"dispatch {piper.directory}/other/incoming")
    piper.run(upper)
    assert len(piper.contents("other")) == 2
    assert piper.out == []


def test_duplicated_message_goes_to_both_queues(piper: Piper) -> None:
    DirectoryQueue(piper.directory / "other")
    piper.put(f"copy {piper.directory}/other")
    piper.run(upper)
    assert piper.contents("other") == [f"copy {piper.directory}/other".encode()]
    assert piper.out == [b"copied"]


def test_rejected_message_is_banished_with_the_reason_given(piper: Piper) -> None:
    (id,) = piper.put("reject it smells")
    piper.run(upper)
    assert piper.errors == [(b"reject it smells", "it smells")]
    report = json.loads((piper.directory / "in/errors" / f"{id}.meta").read_text())
    assert report["exception"] == "Reject"
    assert report["daemon"] == "upper"
    assert {"reason", "exception", "traceback", "time", "host", "pid", "daemon", "attempts"} <= report.keys()


def test_message_is_put_off_for_as_long_as_the_component_says(piper: Piper) -> None:
    piper.put("retry 1000")
    piper.run(upper)
    assert piper.counts()["deferred"] == 1
    (entry,) = QueueView(piper.directory / "in").entries("deferred")
    assert entry.reason == "later"
    assert entry.attempts == 1


def test_message_that_is_due_again_is_tried_again_in_the_same_run(piper: Piper) -> None:
    piper.put("retry 0")
    piper.run(upper, "--retry-limit", "3")
    assert piper.errors == [(b"retry 0", "given up after 3 attempts: later")]


@pytest.mark.parametrize("text", ["raise it broke", "exit", "nonsense"])
def test_failing_component_fails_its_message_and_never_the_daemon(piper: Piper, text: str) -> None:
    piper.put("before", text, "after")
    assert piper.run(upper) == 0
    assert piper.out == [b"BEFORE", b"AFTER"]
    assert piper.contents("in", "deferred") == [text.encode()]


def test_message_that_fails_each_time_is_banished_with_its_history(piper: Piper) -> None:
    piper.put("raise it broke")
    piper.run(upper, "--retry-limit=3", "--retry-min=0", "--retry-max=0")
    ((contents, reason),) = piper.errors
    assert contents == b"raise it broke"
    assert reason == "given up after 3 attempts: RuntimeError: it broke"
    view = QueueView(piper.directory / "in")
    (entry,) = view.entries("errors")
    assert [failure["reason"] for failure in view.history(entry)] == ["RuntimeError: it broke"] * 2
    report = view.report(entry)
    assert report is not None
    assert "apps.py" in report["traceback"]
    assert report["attempts"] == 3


def test_message_that_no_component_settles_is_given_back_at_the_end(piper: Piper) -> None:
    piper.put("none")
    piper.run(upper)
    assert piper.contents("in") == [b"none"]
    assert "not settled" in piper.log


def test_message_that_is_not_utf8_is_banished_as_such(piper: Piper) -> None:
    piper.put(b"\xff\xfe", "good")
    assert piper.run(upper) == 0
    assert piper.out == [b"GOOD"]
    assert piper.errors == [(b"\xff\xfe", "not valid UTF-8: invalid start byte at byte 0")]


def test_blank_message_is_banished_as_such(piper: Piper) -> None:
    piper.put("", " \r\n")
    piper.run(upper)
    assert piper.errors == [(b"", "the message is empty"), (b" \r\n", "the message is blank")]


def test_component_that_wants_bytes_gets_every_byte(piper: Piper) -> None:
    contents = [b"", b" ", b"\xff\x00", b"a\r\nb\r\n", bytes(range(256))]
    piper.put(*contents)
    piper.run(functools.partial(apps.build, "echo"), "--message-format=bytes")
    assert piper.out == contents


def test_carriage_returns_of_a_text_message_are_kept(piper: Piper) -> None:
    piper.put("a\r\nb\r\n")
    piper.run(upper)
    assert piper.out == [b"A\r\nB\r\n"]


def test_message_that_is_not_json_is_banished_as_such(piper: Piper) -> None:
    class Count(Component):
        def process(self, message: Message) -> Outcome:
            return message.commit({"sum": sum(message.json)})

    def build(argv: list[str]) -> PiperDaemon:
        return PiperDaemon(name="sum", argv=argv, components=[Count()], default_message_format="json")

    piper.put([1, 2], "{", "")
    piper.run(build)
    assert piper.out == [b'{"sum":3}']
    assert [reason.partition(":")[0] for _, reason in piper.errors] == ["not valid JSON", "the message is empty"]


def test_components_form_a_chain_that_the_first_outcome_ends(piper: Piper) -> None:
    seen: list[str] = []

    class Skip(Component):
        def process(self, message: Message) -> Outcome | None:
            seen.append(f"skip {message.text}")
            return message.commit("skipped") if message.text == "mine" else None

    class Rest(Component):
        def process(self, message: Message) -> Outcome:
            seen.append(f"rest {message.text}")
            return message.commit()

    piper.put("mine", "yours")
    piper.run(lambda argv: PiperDaemon(name="chain", argv=argv, components=[Skip(), Rest()]))
    assert seen == ["skip mine", "skip yours", "rest yours"]
    assert piper.out == [b"skipped", b"yours"]


def test_hooks_are_called_once_around_the_messages(piper: Piper) -> None:
    calls: list[str] = []

    class Hooks(Component):
        def setup(self, daemon: PiperDaemon) -> None:
            calls.append("setup")

        def teardown(self, daemon: PiperDaemon) -> None:
            calls.append("teardown")
            raise RuntimeError("too late to matter")

        def process(self, message: Message) -> Outcome:
            calls.append(message.text)
            return message.commit()

    piper.put("a", "b")
    assert piper.run(lambda argv: PiperDaemon(name="hooks", argv=argv, components=[Hooks()])) == 0
    assert calls == ["setup", "a", "b", "teardown"]
    assert "Hooks.teardown failed: RuntimeError: too late to matter" in piper.log


def test_component_whose_setup_failed_is_not_torn_down_and_those_before_it_are(piper: Piper) -> None:
    calls: list[str] = []

    class First(Component):
        def teardown(self, daemon: PiperDaemon) -> None:
            calls.append("first")

    class Second(First):
        def setup(self, daemon: PiperDaemon) -> None:
            raise ConfigError("the backend has no name")

        def teardown(self, daemon: PiperDaemon) -> None:
            calls.append("second")

    assert piper.run(lambda argv: PiperDaemon(name="it", argv=argv, components=[First(), Second()])) == 78
    assert calls == ["first"]
    assert piper.log.count("the backend has no name") == 1


def test_failing_setup_ends_the_start_and_names_the_reason(piper: Piper, capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(Component):
        def setup(self, daemon: PiperDaemon) -> None:
            raise Reject("no database")

        def process(self, message: Message) -> Outcome:
            return message.commit()

    piper.put("kept")
    assert piper.run(lambda argv: PiperDaemon(name="broken", argv=argv, components=[Broken()])) == 1
    assert "broken: no database" in capsys.readouterr().err
    assert piper.contents("in") == [b"kept"]


def test_component_written_for_the_original_runs_unchanged(piper: Piper) -> None:
    piper.put("hello")
    assert piper.run(functools.partial(apps.build, "old")) == 0
    assert piper.out == [b"HELLO"]


def test_events_take_a_bare_id_and_a_reason(piper: Piper) -> None:
    piper.put("bare", "spam")
    piper.run(functools.partial(apps.build, "old-banish"))
    assert [reason for _, reason in piper.errors] == ["banished by a component that gave no reason", "I dislike spam"]


def test_mapped_events_are_handled_and_emitted_under_their_other_names(piper: Piper) -> None:
    piper.put("hello")
    piper.run(functools.partial(apps.build, "mapped"))
    assert piper.out == [b"hello"]


def test_event_that_nobody_handles_is_logged_once_and_ends_nothing(piper: Piper) -> None:
    piper.put("hello")
    schedule = [("nonsense",), ("nonsense",), ("start",)]
    assert piper.run(functools.partial(apps.build, "upper", schedule=schedule)) == 0
    assert piper.out == [b"HELLO"]
    assert piper.log.count("'nonsense'") == 1


def test_error_in_another_event_is_logged_with_its_traceback_and_ends_nothing(piper: Piper) -> None:
    class Faulty(apps.Upper):
        def get_events(self) -> list[dict[str, object]]:
            return [*super().get_events(), self.gen_event_handler("start", self.fail)]

        def fail(self, daemon: PiperDaemon, args: object) -> tuple[int, object]:
            raise ValueError("oops")

    piper.put("hello")
    assert piper.run(lambda argv: PiperDaemon(name="faulty", argv=argv, components=[Faulty()])) == 0
    assert piper.out == [b"HELLO"]
    assert "ValueError: oops" in piper.log
    assert "in fail" in piper.log


def test_ids_in_events_that_are_no_ids_touch_nothing(piper: Piper) -> None:
    outside = piper.directory / "precious"
    outside.write_text("keep")
    schedule = [("start",), ("message_cancel", {"id": "../../precious"}), ("message_banish", "../precious")]
    assert piper.run(functools.partial(apps.build, "upper", schedule=schedule)) == 0
    assert outside.read_text() == "keep"
    assert "cannot be a message's id" in piper.log


def test_statistics_are_logged_as_total_increase_and_rate(piper: Piper) -> None:
    piper.put("hello", "reject x")
    schedule_after = [(0.0, "log_statistics")]
    piper.run(functools.partial(apps.build, "upper", schedule_after=schedule_after))
    assert "Processing statistics" in piper.log
    names = (
        "enqueued",
        "fetched",
        "updated",
        "committed",
        "banished",
        "canceled",
        "dispatched",
        "duplicated",
        "errors",
    )
    for name in names:
        assert f"cnt_{name}" in piper.log


def test_run_log_is_saved_at_the_end(piper: Piper) -> None:
    piper.put("hello")
    piper.run(upper)
    (path,) = (piper.directory / "run-log").iterdir()
    found = json.loads(path.read_text())
    assert found["name"] == "upper"
    assert found["rc"] == 0
    assert found["statistics"]["FilerDaemonComponent"]["cnt_committed"] == 1
    assert {"start", "pid", "host", "versions", "errors"} <= found.keys()
