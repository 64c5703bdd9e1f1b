"""Configurations whose own parsers no package has here: every key is one that the program knows, by a list of ours."""

import re

import jsonschema
import pytest
import yaml

from tests.ops.closed import COUNT, DURATION, FLAG, TEXT, Schema, closed, misspelt, some
from tests.ops.test_compose import DOCKERFILE, ROOT

TEMPO = closed(
    "server distributor storage compactor",
    server=closed("http_listen_port", http_listen_port=COUNT),
    distributor=closed(receivers=closed(otlp=closed(protocols=closed(grpc=closed("endpoint", endpoint=TEXT))))),
    storage=closed(
        trace=closed(
            "backend wal", backend={"enum": ["local"]}, local=closed("path", path=TEXT), wal=closed("path", path=TEXT)
        )
    ),
    compactor=closed(compaction=closed("block_retention", block_retention=DURATION)),
    usage_report=closed("reporting_enabled", reporting_enabled=FLAG),
)
COLLECTOR = closed(
    "receivers processors exporters service",
    receivers=closed(otlp=closed(protocols=closed(http=closed("endpoint", endpoint=TEXT)))),
    processors=closed(
        memory_limiter=closed(
            "check_interval limit_mib", check_interval=DURATION, limit_mib=COUNT, spike_limit_mib=COUNT
        ),
        batch=closed(timeout=DURATION, send_batch_size=COUNT),
    ),
    exporters=closed(**{"otlp/tempo": closed("endpoint", endpoint=TEXT, tls=closed(insecure=FLAG))}),
    extensions=closed(health_check=closed("endpoint", endpoint=TEXT)),
    service=closed(
        "pipelines",
        extensions=some(TEXT),
        telemetry=closed(
            metrics=closed(
                readers=some(
                    closed(pull=closed(exporter=closed(prometheus=closed("host port", host=TEXT, port=COUNT))))
                )
            )
        ),
        pipelines=closed(
            traces=closed("receivers exporters", receivers=some(TEXT), processors=some(TEXT), exporters=some(TEXT))
        ),
    ),
)
SOURCES = closed(
    "apiVersion datasources",
    apiVersion={"const": 1},
    datasources=some(
        closed(
            "name uid type access url",
            name=TEXT,
            uid=TEXT,
            type={"enum": ["prometheus", "tempo"]},
            access={"enum": ["proxy"]},
            url=TEXT,
            isDefault=FLAG,
            jsonData=closed(
                timeInterval=DURATION,
                exemplarTraceIdDestinations=some(closed("name datasourceUid", name=TEXT, datasourceUid=TEXT)),
            ),
        )
    ),
)
BOARDS = closed(
    "apiVersion providers",
    apiVersion={"const": 1},
    providers=some(
        closed(
            "name type options",
            name=TEXT,
            folder=TEXT,
            type={"const": "file"},
            allowUiUpdates=FLAG,
            options=closed("path", path=TEXT),
        )
    ),
)
SCHEMAS: dict[str, Schema] = {
    "tempo/tempo.yml": TEMPO,
    "otel/collector.yml": COLLECTOR,
    "grafana/provisioning/datasources/streamgauge.yml": SOURCES,
    "grafana/provisioning/dashboards/streamgauge.yml": BOARDS,
}
INSTRUCTIONS = {"FROM", "WORKDIR", "COPY", "RUN", "ENV", "USER", "CMD"}


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_key_is_known(name: str) -> None:
    """And one that is misspelt is found, wherever it is: most programs would not start with it."""
    document = yaml.safe_load((ROOT / "ops" / name).read_text())
    jsonschema.validate(document, SCHEMAS[name])
    for spoilt in misspelt(document):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(spoilt, SCHEMAS[name])


def test_the_image_is_made_by_instructions_that_there_are() -> None:
    """Each line that continues none begins with one."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.M))
    assert {line.split()[0] for line in joined.splitlines() if line.strip()} <= INSTRUCTIONS
