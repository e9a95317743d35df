"""A job's way out: its outputs, log and receipt stored behind a fence, then the verdict."""

from actors.outputs.actor import Outputs, OutputsMessage

__all__ = ["Outputs", "OutputsMessage"]
