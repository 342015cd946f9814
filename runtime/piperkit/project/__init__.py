"""Projects that were made from the template: making them, adding to them, upgrading them, and finding what is wrong.

Only `piperctl` uses this. It needs copier, which a daemon does not: `pip install 'piperkit[template]'`.
"""
