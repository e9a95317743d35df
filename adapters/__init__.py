"""Everything that touches a wire, an SDK, a disk format or a device. Nothing here imports an actor."""
