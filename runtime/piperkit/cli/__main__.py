"""`python -m piperkit.cli` is `piperctl`."""

from piperkit.cli import app

app()
