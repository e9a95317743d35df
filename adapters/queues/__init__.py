"""Queues by product, each an adapter of the ports ``Broker`` and ``Queue``."""
