"""Dialects: bytes to a job and events to bytes. No I/O; nothing here raises, whatever the bytes."""
