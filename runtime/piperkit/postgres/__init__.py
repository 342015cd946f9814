"""The queue of several machines: PostgreSQL keeps it, for daemons on as many of them as are wanted.

- `address`: how a queue there is called; `connection`: to the server, which may go away and come back;
- `schema`: the tables, their versions, and who may do what;
- `database_queue`: the queue interface; `claims`, `changes`, `lease`, `recovery`, `watch`: what it is made of;
- `view`, `acts`: for operators.

A queue is rows of one table. Where the directory queue renames a file, a row is updated, and what belongs together is
one transaction: so between queues of one database each message is moved on once, whatever dies.

What is imported here is there with `piperkit[postgres]` only; a daemon that works on directories imports none of it.
"""
