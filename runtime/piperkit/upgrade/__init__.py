"""Upgrading a project to a newer version of the template: tried in a working tree of its own, and then taken over.

Only `piperctl` uses this, and the migrations of the template.
"""
