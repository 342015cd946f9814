"""`make bench`: the runtime beside the original, other queues and a C program, measured in alternating rounds.

    peers/       what is measured: one program each, all with the same command line and the same report
    scenarios/   what they are made to do, and what the runtime has to reach
    rounds       alternating rounds; results: series, comparisons, verdicts; report, chart, page: how they are shown

`python -m benchmarks --help` lists the options. Everything that is made is under `.bench/` and in one directory on each
file system that is measured.
"""
