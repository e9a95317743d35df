"""The watched directory of credential files, and the services behind them."""

from actors.sources.actor import Sources, SourcesMessage

__all__ = ["Sources", "SourcesMessage"]
