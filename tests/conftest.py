"""A skipped or expected-to-fail test fails the run: guarded tests that never run hide what is broken."""

from __future__ import annotations

import signal
from typing import Any

# A shell that starts the tests in the background makes them ignore Ctrl-C, nohup a hang-up, and their children inherit that: the
# tests of signals need a terminal's settings.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def pytest_terminal_summary(terminalreporter: Any, exitstatus: int, config: Any) -> None:
    for kind in ("skipped", "xfailed"):
        for report in terminalreporter.stats.get(kind, []):
            terminalreporter.write_line(f"{kind} counts as failed: {report.nodeid}")


def pytest_sessionfinish(session: Any, exitstatus: int) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter and (reporter.stats.get("skipped") or reporter.stats.get("xfailed")) and exitstatus == 0:
        session.exitstatus = 1
