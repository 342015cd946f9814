"""`piperctl pipeline check`: what is wrong with a pipeline, each with what mends it.

The file alone shows loops, and queues that nobody reads or writes. The daemons are asked for their own view, and the
queues are looked at: what rests there shows formats that do not fit, and queues that were left behind.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

from piperkit import engines
from piperkit.config import nearest
from piperkit.daemon.process import account_name
from piperkit.dirq.fs import display
from piperkit.doctor.finding import Finding
from piperkit.errors import ExitStatus, PiperError
from piperkit.operating import View
from piperkit.pipeline import graph, programs
from piperkit.pipeline.description import Member, Pipeline
from piperkit.pipeline.graph import place
from piperkit.pipeline.programs import Answer

#: Messages of a queue that are looked at, whether they have the format that its daemon expects.
SAMPLE = 20
_CHECKED_FORMATS = ("text", "json")


def examine(pipeline: Pipeline) -> Iterator[Finding]:
    """Everything that is wrong. Raises NoProgram where nothing of it is ours to run."""
    yield from shape(pipeline)
    answers = programs.describe(pipeline, pipeline.members)
    for member in pipeline.members:
        yield from _daemon(pipeline, member, answers[member.name])
    facts = {name: answer.facts for name, answer in answers.items() if answer.facts is not None}
    yield from _beginnings(pipeline, facts)
    yield from _accounts(pipeline, facts)
    yield from _versions(pipeline, facts)
    yield from _file_systems(pipeline)
    for member in pipeline.members:
        if member.name in facts:
            yield from _formats(member, facts[member.name])
    yield from _pauses(pipeline)
    yield from _left_behind(pipeline)
    yield from _flows(pipeline)


def startable(pipeline: Pipeline) -> Iterator[Finding]:
    """What is wrong that keeps it from being started: shape, programs and their configuration. Raises as `examine`."""
    yield from shape(pipeline)
    answers = programs.describe(pipeline, pipeline.members)
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
            yield Finding(
                member.name, words, f"sudo piperctl pipeline units --to / {_option(pipeline)}", check="queues"
            )


def _option(pipeline: Pipeline) -> str:
    return f"--pipeline {quote(str(pipeline.path))}"


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


def _formats(member: Member, facts: Mapping[str, Any]) -> Iterator[Finding]:
    """What waits in a queue has the format that its daemon expects."""
    form = facts["config"].get("message_format")
    if form not in _CHECKED_FORMATS:
        return
    with contextlib.suppress(OSError, PiperError):
        view = engines.view(member.source)
        entries, _ = view.oldest("incoming", SAMPLE)
        wrong = [entry for entry in entries if not _fits(view.read(entry), form)]
        if wrong:
            words = (
                f"{len(wrong)} of the first {len(entries)} messages that wait for it are no {form}, its message_format"
            )
            mend = f"piperctl queue show {quote(member.source)} {quote(wrong[0].id)}"
            yield Finding(member.name, words, mend, warning=True, check="formats")


def _fits(data: bytes, form: str) -> bool:
    try:
        return data.decode() is not None and (form != "json" or json.loads(data) is not ...)
    except (ValueError, RecursionError):
        return False


def _pauses(pipeline: Pipeline) -> Iterator[Finding]:
    """No operator has paused a queue, or what its daemon fetches."""
    for member in pipeline.members:
        with contextlib.suppress(OSError, PiperError):
            paused = engines.view(member.source).paused()
            if paused is not None:
                mend = f"piperctl queue resume {quote(member.source)}"
                yield Finding(member.name, str(paused), mend, warning=True, check="paused")


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
            view = engines.view(queue)
            if _somebody_reads(view):
                continue
            counts = view.counts()
            count = sum(counts.values())
            if count:
                words = f"it holds {count} message{'s' * (count != 1)}, and no daemon of this pipeline reads it"
                part = max(counts, key=lambda part: counts[part])
                mend = f"piperctl queue mv {quote(queue)} QUEUE --part {part} --all"
                yield Finding(display(queue), words, mend, warning=True, check="left behind")


def _somebody_reads(view: View) -> bool:
    """Whether it may be another pipeline's."""
    there = view.instances()
    return there is None or any(each.alive for each in there)


def _flows(pipeline: Pipeline) -> Iterator[Finding]:
    """Messages have gone only where the file says, as far as the history knows."""
    known: dict[str, tuple[str, set[str]]] = {}
    views: list[View] = []
    for member in pipeline.members:
        with contextlib.suppress(OSError, PiperError):
            views.append(engines.view(member.source))
            known[views[-1].path] = member.name, {place(target) for target in member.targets}
    told: Sequence[graph.Edge] = ()
    with contextlib.suppress(OSError):
        told = graph.flowed(views).edges
    paths = {engines.short_name(path): path for path in known}
    for edge in told:
        name, targets = known[paths[edge.tail]]
        if place(edge.queue) not in targets:
            words = f"{edge.messages} of its messages have gone to {display(edge.queue)}, of which {pipeline.path.name}"
            words += " does not know"
            mend = f"${{EDITOR:-vi}} {quote(str(pipeline.path))}  # add it to daemons.{name}.to"
            yield Finding(name, words, mend, warning=True, check="flows")
