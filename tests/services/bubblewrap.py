"""Bubblewrap, with which process jobs of a runner that is not root get a view of their own; nothing is started."""

from tests.services.service import Service

SERVICE = Service(
    name="bubblewrap",
    purpose="process jobs of a runner that is not root",
    programs=("bwrap",),
    packages=("bubblewrap",),
    root_needed=False,
    start=None,
)
