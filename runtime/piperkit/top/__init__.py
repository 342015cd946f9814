"""`piperctl top`: queues and daemons on a terminal, as they do now, and what an operator does about it.

- `feed`: what is looked at, in the background, and how it has been lately;
- `app`: the screen of all queues, with the chain as a graph;
- `screens`: one queue, one message, kinds of errors, help.

What is done goes through `piperkit.cli.hands`. It needs textual: the extra `top`.
"""
