"""A C compiler, which builds the stand-in for NVIDIA's library; nothing is started."""

from tests.services.service import Service

SERVICE = Service(
    name="compiler",
    purpose="builds a stand-in for NVIDIA's library",
    programs=("cc",),
    packages=("gcc", "libc6-dev"),
    root_needed=False,
    start=None,
)
