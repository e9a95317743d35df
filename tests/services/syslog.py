"""The two daemons that take logs on Linux boxes, for tests that start their own; nothing is started here."""

from tests.services.service import Service

SERVICE = Service(
    name="syslog",
    purpose="sinks to syslog and to the systemd journal",
    programs=("rsyslogd", "journalctl"),
    packages=("rsyslog", "systemd"),
    root_needed=False,
    start=None,
)
