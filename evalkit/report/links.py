"""Addresses inside of a report (`evalkit report`), for tables and CI; knows no report."""

from __future__ import annotations

from urllib.parse import quote


def to_task(report: str, task: str, more: str = "") -> str:
    """The address of a task's page, or of `/samples?...` below it."""
    base = report if report.endswith((".html", ".htm")) else f"{report.rstrip('/')}/index.html"
    return f"{base}#/task/{quote(task, safe='')}{more}"
