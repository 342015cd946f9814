"""Projects that are made from the template: making them, and adding to them; and the template's repository.

Only `piperctl` uses this. It needs copier, which a daemon does not: `pip install 'piperkit[template]'`.
"""
