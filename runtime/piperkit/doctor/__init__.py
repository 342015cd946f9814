"""Finding out what is wrong with projects, daemons and queues, and mending what is safe to mend.

It knows no rules of its own for queues: what is an orphan, or litter, or a wrong mode, it asks `piperkit.dirq`.
"""
