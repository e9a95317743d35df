"""
The ports: what actors ask of the world, and what an adapter must keep.

Every method may raise ``Unavailable`` (the service did not answer) besides what it names. No port retries by itself:
retries, jitter, time limits and metrics are written once, in the actor that calls. A call may be cancelled at any
await; an adapter then leaves the service as if the call had happened, or not happened, never in between.
"""

from runner.ports.box import Box, Control, Credentials, Journal, ServiceManager, Spool, SpoolSeal
from runner.ports.containers import Chunk, Containers, ContainerSpec, Exit, GpuProbe, Running
from runner.ports.dialects import Decoded, Dialect
from runner.ports.images import BegunPull, BuildOrder, ImageRecords, ImageRow, Images, KnownImages, LocalImage
from runner.ports.queues import NOBODY, Broker, DeadLetterRow, Delivery, Queue, QueuedMessage
from runner.ports.results import Cursor, End, Gap, LogLine, Position, Results, Sink, SinkTraits
from runner.ports.stores import Blob, Blobs, BuildContext, CollectedFile, Stat, Store, Workspaces
from runner.ports.world import World

__all__ = [
    "NOBODY",
    "BegunPull",
    "Blob",
    "Blobs",
    "Box",
    "Broker",
    "BuildContext",
    "BuildOrder",
    "Chunk",
    "CollectedFile",
    "ContainerSpec",
    "Containers",
    "Control",
    "Credentials",
    "Cursor",
    "DeadLetterRow",
    "Decoded",
    "Delivery",
    "Dialect",
    "End",
    "Exit",
    "Gap",
    "GpuProbe",
    "ImageRecords",
    "ImageRow",
    "Images",
    "Journal",
    "KnownImages",
    "LocalImage",
    "LogLine",
    "Position",
    "Queue",
    "QueuedMessage",
    "Results",
    "Running",
    "ServiceManager",
    "Sink",
    "SinkTraits",
    "Spool",
    "SpoolSeal",
    "Stat",
    "Store",
    "Workspaces",
    "World",
]
