"""One attempt after the other: both halves of a job come together, and it runs to its end."""

from actors.executor.actor import Executor, ExecutorMessage

__all__ = ["Executor", "ExecutorMessage"]
