"""Several daemons as one: a file says how they are chained, and everything about the chain follows from it.

- `description`: the file `pipeline.toml`, the only truth;
- `graph`: daemons and the queues between them, as the file or the history has them; `installed`: as they are
  configured; `drawing`;
- `making`: a project with a chain from the template, and daemons that are put into it;
- `programs`: the daemons' programs, which describe themselves;
- `checks`: what is wrong with a pipeline, and what mends it;
- `units`: what systemd needs to run it, without us;
- `running`: all of it in the foreground, for development;
- `draining`: letting it run empty;
- `cases`, `trial`: messages in, and what has to come out at each end.

There is no manager: daemons know only their own queues, and systemd runs them.
"""
