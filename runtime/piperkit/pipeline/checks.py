"""`piperctl pipeline check`: what is wrong with a pipeline, each with what mends it.

The file alone shows loops, and queues that nobody reads or writes. The daemons are asked for their own view, and the
queues are looked at: what rests there shows formats that do not fit, and queues that were left behind.
"""

from __future__ import annotations

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from piperkit import engines
from piperkit.config import nearest
from piperkit.daemon.process import account_name
from piperkit.dirq.fs import display
from piperkit.doctor.finding import Finding
from piperkit.doctor.subjects import Answer
from piperkit.errors import ExitStatus, PiperError
from piperkit.message import Format, Message, Reject, text_of
from piperkit.operating import View
from piperkit.pipeline import graph, programs
from piperkit.pipeline.description import Member, Pipeline
from piperkit.pipeline.graph import place

#: Messages of a queue that are looked at, whether they have the format that its daemon expects.
SAMPLE = 20


def examine(pipeline: Pipeline) -> Iterator[Finding]:
    """Everything that is wrong. Raises NoProgram where nothing of it is ours to run."""
    answers = programs.describe(pipeline, pipeline.members)
    yield from startable(pipeline, answers)
    facts = {name: answer.facts for name, answer in answers.items() if answer.facts is not None}
    yield from _beginnings(pipeline, facts)
    yield from _accounts(pipeline, facts)
    yield from _versions(pipeline, facts)
    yield from _file_systems(pipeline)
    with contextlib.ExitStack() as until:
        views: dict[str, View] = {}
        for member in pipeline.members:
            with contextlib.suppress(PiperError):  # it is made when the daemon starts
                views[member.name] = until.enter_context(contextlib.closing(engines.view(member.source)))
        for name, view in views.items():
            with contextlib.suppress(OSError, PiperError):  # which is not for us to see
                yield from _formats(name, view, facts.get(name, {}).get("config", {}))
                yield from _pause(name, view)
        yield from _flows(pipeline, views)
    yield from _left_behind(pipeline)


def startable(pipeline: Pipeline, answers: Mapping[str, Answer] | None = None) -> Iterator[Finding]:
    """What is wrong that keeps it from being started: its shape, its programs and their configuration.

    answers: what the daemons say; by default they are asked. Raises as `examine`.
    """
    yield from shape(pipeline)
    answers = programs.describe(pipeline, pipeline.members) if answers is None else answers
    for member in pipeline.members:
        yield from _daemon(pipeline, member, answers[member.name])


def shape(pipeline: Pipeline) -> Iterator[Finding]:
    """What the file alone shows."""
    where = str(pipeline.path)
    edit = f"${{EDITOR:-vi}} {quote(where)}"
    readers: defaultdict[str, list[Member]] = defaultdict(list)
    for member in pipeline.members:
        readers[place(member.source)].append(member)
    for several in readers.values():
        if len(several) > 1:
            names = " and ".join(member.name for member in several)
            words = f"{names} read {display(several[0].source)}: which of them gets a message is chance"
            yield Finding(where, words, edit, check="readers")
    loop = graph.of(pipeline).loop()
    if loop:
        words = f"a loop: {' → '.join(loop)}: a message may go round for ever, and a full queue stops all of them"
        yield Finding(where, words, edit, check="loop")
    outputs = {place(queue) for queue in pipeline.outputs}
    known = [member.source for member in pipeline.members]
    for member in pipeline.members:
        for target in member.targets:
            if place(target) not in readers and place(target) not in outputs:
                alike = nearest(engines.short_name(target), map(engines.short_name, known))
                words = f"nobody reads {display(target)}, which {member.name} writes to{alike}"
                mend = f"{edit}  # add a daemon that reads it, or name it in outputs"
                yield Finding(where, words, mend, check="read")


def _daemon(pipeline: Pipeline, member: Member, answer: Answer) -> Iterator[Finding]:
    """It is there, its configuration is right, and says the same of its queues as the pipeline, or nothing."""
    file = str(member.config or Path(pipeline.project or "/", "etc", f"{member.name}.conf"))
    edit = f"${{EDITOR:-vi}} {quote(file)}"
    facts = answer.facts
    if facts is None:
        missing = answer.status == ExitStatus.UNAVAILABLE
        mend = edit if not missing else f"${{EDITOR:-vi}} {quote(str(pipeline.path))}  # or install it"
        yield Finding(member.name, answer.wrong, mend, check="daemon")
        return
    pairs = (("queue_in_dir", "queue", member.source), ("queue_out_dir", "next_queue", member.next_queue))
    for key, fact, wanted in pairs:
        said, origin = facts[fact], facts.get("origins", {}).get(key)
        if place(said or "") == place(wanted or ""):
            continue
        shown, ours = display(said or "none"), display(wanted or "none")
        if origin is not None and "pipeline-" not in os.path.basename(origin):
            words = f"{origin} says {key} {shown}, and {pipeline.path.name} says {ours}, which counts"
            yield Finding(member.name, words, f"${{EDITOR:-vi}} {quote(origin)}  # leave {key} out", check="queues")
        elif pipeline.project is None:
            words = f"its {key} is {shown}, and {pipeline.path.name} says {ours}: its units are older, or not there"
            mend = f"sudo piperctl pipeline units --to / --pipeline {quote(str(pipeline.path))}"
            yield Finding(member.name, words, mend, check="queues")


def _beginnings(pipeline: Pipeline, facts: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Something comes into each queue: from another daemon, from outside, or by a source."""
    written = {place(target) for member in pipeline.members for target in member.targets}
    written |= {place(queue) for queue in pipeline.inputs}
    edit = f"${{EDITOR:-vi}} {quote(str(pipeline.path))}"
    for member in pipeline.members:
        fetches = facts.get(member.name, {}).get("fetches")
        if fetches is False and place(member.source) not in written:
            words = f"nobody writes to {display(member.source)}, which it reads"
            mend = f"{edit}  # have a daemon write to it, or name it in inputs"
            yield Finding(member.name, words, mend, warning=True, check="written")
        if fetches and member.instances > 1:
            words = f"it fetches from outside, and so would each of its {member.instances} instances: everything twice?"
            yield Finding(member.name, words, f"{edit}  # instances = 1", warning=True, check="instances")


def _accounts(pipeline: Pipeline, facts: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """Who writes into a queue of another account may do so: by a group that both have."""
    writers: defaultdict[str, list[str]] = defaultdict(list)
    for member in pipeline.members:
        for target in member.targets:
            writers[place(target)].append(member.name)
    for member in pipeline.members:
        if member.name not in facts or engines.is_address(member.source):
            continue
        owner = facts[member.name]["config"]["user"]
        with contextlib.suppress(OSError):
            found = account_name(os.stat(f"{member.source}/pending").st_uid)
            if owner is not None and found is not None and found != owner and os.path.isdir(member.source):
                words = f"its queue {display(member.source)} belongs to {found}, and it runs as {owner}"
                mend = f"sudo chown -R {quote(owner)} {quote(member.source)}"
                yield Finding(member.name, words, mend, check="accounts")
        for writer in writers[place(member.source)]:
            config = facts.get(writer, {}).get("config")
            if config is None or config["user"] == owner or None in (config["user"], owner):
                continue
            if config["group"] != facts[member.name]["config"]["group"]:
                words = f"{writer} runs as {config['user']}, {member.name} as {owner}, and they have no group in common"
                mend = f"sudo usermod --append --groups piper {quote(config['user'])}"
                yield Finding(
                    member.name, f"{words}: it may not write to {display(member.source)}", mend, check="accounts"
                )


def _versions(pipeline: Pipeline, facts: Mapping[str, Mapping[str, Any]]) -> Iterator[Finding]:
    """All run with one version of the runtime."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for name, said in facts.items():
        found[said["versions"]["piperkit"]].append(name)
    if len(found) > 1:
        words = "; ".join(f"{version}: {', '.join(names)}" for version, names in sorted(found.items()))
        mend = "upgrade the older ones: piperctl upgrade, and make install, in the project of each"
        words = f"its daemons run with different versions of piperkit: {words}"
        yield Finding(pipeline.name, words, mend, warning=True, check="versions")


def _file_systems(pipeline: Pipeline) -> Iterator[Finding]:
    """A queue and the next one are on one file system, where a message is moved by its name alone."""
    devices: dict[str, int] = {}
    for queue in pipeline.queues():
        with contextlib.suppress(OSError):
            if not engines.is_address(queue):
                devices[queue] = os.stat(os.path.join(queue, "incoming")).st_dev
    for member in pipeline.members:
        for target in member.targets:
            if member.source in devices and target in devices and devices[member.source] != devices[target]:
                words = f"{display(member.source)} and {display(target)} are on two file systems: messages are copied"
                mend = f"${{EDITOR:-vi}} {quote(str(pipeline.path))}  # have both in one spool"
                yield Finding(member.name, words, mend, warning=True, check="file systems")


def _formats(name: str, view: View, config: Mapping[str, Any]) -> Iterator[Finding]:
    """What waits in a queue has the format that its daemon expects. Raises OSError, PiperError."""
    form = config.get("message_format", Format.BYTES.value)
    entries, _ = view.oldest("incoming", SAMPLE)
    wrong = [entry for entry in entries if not _fits(entry.id, view.read(entry), Format(form))]
    if wrong:
        words = f"{len(wrong)} of the first {len(entries)} messages that wait for it are not {form}, its message_format"
        mend = f"piperctl queue show {quote(view.path)} {quote(wrong[0].id)}"
        yield Finding(name, words, mend, warning=True, check="formats")


def _fits(id: str, data: bytes, form: Format) -> bool:
    """Whether a daemon of that format could be given such a message."""
    try:
        if form is not Format.BYTES:
            text_of(data)
        if form is Format.JSON:
            _ = Message(id, data).json
    except Reject:
        return False
    return True


def _pause(name: str, view: View) -> Iterator[Finding]:
    """No operator has paused a queue, or what its daemon fetches. Raises OSError, PiperError."""
    paused = view.paused()
    if paused is not None:
        yield Finding(name, str(paused), f"piperctl queue resume {quote(view.path)}", warning=True, check="paused")


def _left_behind(pipeline: Pipeline) -> Iterator[Finding]:
    """No queue of the spool holds messages that nobody reads."""
    try:
        there = engines.spool(pipeline.spool)
    except (OSError, PiperError):
        return  # it is made when they start
    known = {place(member.source) for member in pipeline.members} | {place(queue) for queue in pipeline.outputs}
    for queue in there:
        if place(queue) in known:
            continue
        with contextlib.suppress(OSError, PiperError):
            with contextlib.closing(engines.view(queue)) as view:
                if _somebody_reads(view):
                    continue
                counts = view.counts()
            count = sum(counts.values())
            if count:
                words = f"it holds {count} message{'s' * (count != 1)}, and no daemon of this pipeline reads it"
                part = max(counts, key=counts.__getitem__)
                mend = f"piperctl queue mv {quote(queue)} QUEUE --part {part} --all"
                yield Finding(display(queue), words, mend, warning=True, check="left behind")


def _somebody_reads(view: View) -> bool:
    """Whether it may be another pipeline's."""
    there = view.instances()
    return there is None or any(each.alive for each in there)


def _flows(pipeline: Pipeline, views: Mapping[str, View]) -> Iterator[Finding]:
    """Messages have gone only where the file says, as far as the history knows."""
    try:
        edges = graph.flowed(views).edges
    except OSError:
        return  # it is for the queues' owners to read
    for edge in edges:
        if place(edge.queue) not in map(place, pipeline.member(edge.tail).targets):
            words = f"{edge.messages} of its messages have gone to {display(edge.queue)}, of which {pipeline.path.name}"
            mend = f"${{EDITOR:-vi}} {quote(str(pipeline.path))}  # add it to daemons.{edge.tail}.to"
            yield Finding(edge.tail, f"{words} does not know", mend, warning=True, check="flows")
