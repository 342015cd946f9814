"""The model behind the sizing guide, from what one daemon takes with `queue_sync=batch` on the disk.

A message takes processor time in each daemon that it passes, and time in which that instance waits for the disk. An
instance does one thing at a time; processors are shared by all; and at worst a disk serves one wait at a time. What is
scarcest decides. `instances` compares the model with what several instances were measured to do.
"""

from __future__ import annotations

import dataclasses
import math
import statistics

from benchmarks.peers import OURS
from benchmarks.report import number
from benchmarks.results import Results

#: What the guide has a row for: cores and disks; and a column for: daemons that each message passes.
MACHINES = ((1, 1), (2, 1), (4, 1), (4, 2), (8, 2), (8, 4), (16, 4))
DAEMONS = (1, 2, 3, 5)


@dataclasses.dataclass(frozen=True)
class Model:
    """What a message takes in one daemon, in microseconds.

    cpu: of a processor.
    wait: of waiting for the disk.
    """

    cpu: float
    wait: float

    @classmethod
    def of(cls, results: Results) -> Model | None:
        """None where it was not measured."""
        batch = results.find("sync/disk/batch")
        if batch is None or not batch.cpu:
            return None
        cpu = statistics.median(batch.cpu)
        return cls(cpu, max(0.0, 1e6 / batch.spread.median - cpu))

    def rate(self, cores: int, disks: int, daemons: int = 1, instances: float = math.inf) -> float:
        """Messages a second through a chain of `daemons`, each with so many instances."""
        limits = [instances / (self.cpu + self.wait), cores / (daemons * self.cpu)]
        if self.wait:
            limits.append(disks / (daemons * self.wait))
        return min(limits) * 1e6

    @property
    def instances_a_core(self) -> int:
        """Instances that keep one core busy while some of them wait."""
        return math.ceil((self.cpu + self.wait) / self.cpu)


def guide(model: Model) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: messages a second for each machine and length of a chain."""
    chains = [f"{daemons} daemons in a chain" if daemons > 1 else "one daemon" for daemons in DAEMONS]
    rows = [
        [str(cores), str(disks), *(number(model.rate(cores, disks, daemons)) for daemons in DAEMONS)]
        for cores, disks in MACHINES
    ]
    return ["cores", "disks", *chains], rows


def check(model: Model, results: Results) -> tuple[list[str], list[list[str]]]:
    """Headings and rows: what several instances were measured to do, and what the model says of them."""
    rows = []
    cores = int(results.machine["processor"].split()[0])
    for series in results.series:
        if series.scenario == "synced instances":
            instances = int(series.contestant.removeprefix(f"{OURS.name} x "))
            said = model.rate(cores, 1, instances=instances)
            measured = series.spread.median
            rows.append([str(instances), number(measured), number(said), f"{number(measured / said)} x"])
    return ["instances", "measured, messages/s", "the model says", "measured, of that"], rows
