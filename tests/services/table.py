"""Every service that tests can use, in the order in which they are listed and started."""

from collections.abc import Mapping
from types import MappingProxyType

from tests.services import bubblewrap, compiler, docker, localstack, moto, podman, rabbitmq, redis, registry, syslog
from tests.services.service import Service

SERVICES: Mapping[str, Service] = MappingProxyType(
    {
        service.name: service
        for service in (
            docker.SERVICE,
            registry.SERVICE,
            compiler.SERVICE,
            bubblewrap.SERVICE,
            podman.SERVICE,
            redis.SERVICE,
            rabbitmq.SERVICE,
            localstack.SERVICE,
            moto.SERVICE,
            syslog.SERVICE,
        )
    }
)
