"""`piperctl web`: the same as `piperctl top`, on a page.

- `guard`: who may see and do what;
- `app`: the addresses, and what they answer;
- `pages`: what is shown on them; the templates, the style sheet and the script lie beside it.

It shows what the queues hold: nothing without its token, by default on a loopback address only, and to no page of
others; and it changes nothing unless that is asked for. Nothing comes from other hosts. It needs Starlette, uvicorn and
Jinja: the extra `web`.
"""
