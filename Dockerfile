# One image for every process of ours; docker-compose.yml says which one a container runs.
# Written for a machine with a container engine. It has not been built by the project's own tests, which have none:
# they check what can be checked without one (tests/ops/test_compose.py).
FROM python:3.11.14-slim-trixie AS build
WORKDIR /build
COPY requirements.lock .
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.lock

FROM python:3.11.14-slim-trixie
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=build /venv /venv
WORKDIR /srv/streamgauge
COPY app app
COPY dashboards dashboards
COPY loadtest loadtest
COPY ops ops
# Nobody in particular: the processes write no files.
USER 10001:10001
CMD ["python", "-m", "ops.cli", "--help"]
