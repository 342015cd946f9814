"""`piperctl top`: queues and daemons on a terminal, as they do now, and what an operator does about it.

- `app`: the screen of all queues, with the chain as a graph;
- `queue`, `kinds`, `message`: one queue, its kinds of errors, one message;
- `parts`: what they share.

What it shows comes from `piperkit.feed`, what is done goes through `piperkit.cli.hands`. It needs textual: the extra
`top`.
"""
