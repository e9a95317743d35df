# The runner in an image, for Kubernetes and for boxes where Docker is the only thing installed.
#
#   docker build -t gpu-runner .
#   docker run -v /etc/runner/certs:/etc/runner/certs:ro -v /var/lib/runner:/var/lib/runner \
#              -v /var/run/docker.sock:/var/run/docker.sock gpu-runner
#
# Jobs' workspaces are mounted by the engine on the host, so the state directory has the same path inside and outside.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
WORKDIR /build
COPY requirements.txt ./
RUN python3 -m venv /opt/runner \
 && /opt/runner/bin/pip install --no-cache-dir --require-hashes --only-binary :all: -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY runner runner
COPY actors actors
COPY adapters adapters
RUN /opt/runner/bin/pip install --no-cache-dir --no-deps --no-build-isolation .

FROM ${BASE}
COPY --from=build /opt/runner /opt/runner
ENV PATH=/opt/runner/bin:$PATH PYTHONUNBUFFERED=1
# SIGTERM stops as `on_stop` says; an engine that gives less than the runner's grace loses nothing, the next start adopts.
STOPSIGNAL SIGTERM
ENTRYPOINT ["runner"]
CMD ["run"]
