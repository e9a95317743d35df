"""One private instance of a service in a temporary directory that goes away with it."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path

from tests.services.service import Service, ServiceError


@contextmanager
def started(service: Service, below: Path = Path("/tmp")) -> Iterator[Mapping[str, str]]:
    """Start one instance, yield its variables for tests, stop it and remove what it wrote."""
    obstacle = service.obstacle()
    if obstacle is not None:
        raise ServiceError(f"{service.name}: {obstacle}")
    # Unix socket paths end at 107 bytes, so the directory is short and not below a long TMPDIR.
    directory = Path(tempfile.mkdtemp(prefix=f"rt-{service.name}-", dir=below))
    try:
        with service.start(directory) if service.start else nullcontext({}) as variables:
            yield variables
    finally:
        shutil.rmtree(directory)
