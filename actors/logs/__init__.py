"""Fan-out: what jobs write goes from their spools to the sinks of their queues, each at its own pace."""

from actors.logs.actor import Logs, LogsMessage

__all__ = ["Logs", "LogsMessage"]
