"""What ours may write in kinds that operators bring, closed: a field that is not listed here is an error.

From the definitions of KEDA, the Prometheus operator and the Gateway API as of August 2026: that part of them which
ops/k8s uses or may soon use.
"""

from tests.ops.closed import COUNT, DURATION, FLAG, NAME, OPEN, TEXT, TEXTS, Schema, closed, some


def document(version: str, kind: str, spec: Schema) -> Schema:
    labels: dict[str, Schema] = {"labels": TEXTS, "annotations": TEXTS, "namespace": NAME}
    metadata = closed("name", name=NAME, **labels)
    return closed(
        "apiVersion kind metadata spec",
        apiVersion={"const": version},
        kind={"const": kind},
        metadata=metadata,
        spec=spec,
    )


TRIGGER = closed(
    "type metadata",
    type={"const": "prometheus"},
    name=NAME,
    metricType={"enum": ["Value", "AverageValue"]},
    useCachedMetrics=FLAG,
    metadata=closed(
        "serverAddress query threshold",
        serverAddress={"type": "string", "pattern": r"^https?://[\w.-]+:\d+$"},
        query=TEXT,
        threshold={"type": "string", "pattern": r"^\d+(\.\d+)?$"},
        namespace=NAME,
        ignoreNullValues={"enum": ["true", "false"]},
    ),
)
SCALED_OBJECT = closed(
    "scaleTargetRef triggers",
    scaleTargetRef=closed("name", name=NAME, apiVersion=TEXT, kind=TEXT),
    pollingInterval=COUNT,
    minReplicaCount=COUNT,
    maxReplicaCount=COUNT,
    fallback=closed("failureThreshold replicas", failureThreshold=COUNT, replicas=COUNT),
    advanced=closed(
        horizontalPodAutoscalerConfig=closed(name=NAME, behavior=OPEN),  # Kubernetes's own, which judges it
        restoreToOriginalReplicaCount=FLAG,
    ),
    triggers=some(TRIGGER),
)
ENDPOINT = closed(
    "port",
    port=NAME,
    path={"type": "string", "pattern": "^/"},
    interval=DURATION,
    scrapeTimeout=DURATION,
    scheme={"enum": ["http", "https", "HTTP", "HTTPS"]},
    honorLabels=FLAG,
    authorization=closed("credentials", type=TEXT, credentials=closed("name key", name=NAME, key=TEXT)),
    relabelings=some(closed("targetLabel", targetLabel=TEXT, replacement=TEXT, sourceLabels=some(TEXT), action=TEXT)),
)
SELECTOR = closed("matchLabels", matchLabels=TEXTS)
RULE = {
    "oneOf": [
        closed("record expr", record={"type": "string", "pattern": r"^[a-zA-Z_:][\w:]*$"}, expr=TEXT, labels=TEXTS),
        closed("alert expr", alert=TEXT, expr=TEXT, **{"for": DURATION}, labels=TEXTS, annotations=TEXTS),
    ]
}
ROUTE = closed(
    "matches",
    matches=some(
        closed("path", path=closed("type value", type={"enum": ["Exact", "PathPrefix"]}, value={"pattern": "^/"}))
    ),
    timeouts=closed(
        request={"type": "string", "pattern": r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"},
        backendRequest={"type": "string", "pattern": r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"},
    ),
    backendRefs=some(closed("name port", name=NAME, port=COUNT, weight=COUNT)),
)
OPERATORS = "monitoring.coreos.com/v1"
KINDS: dict[str, Schema] = {
    "ScaledObject": document("keda.sh/v1alpha1", "ScaledObject", SCALED_OBJECT),
    "ServiceMonitor": document(
        OPERATORS, "ServiceMonitor", closed("selector endpoints", selector=SELECTOR, endpoints=some(ENDPOINT))
    ),
    "PodMonitor": document(
        OPERATORS,
        "PodMonitor",
        closed("selector podMetricsEndpoints", selector=SELECTOR, podMetricsEndpoints=some(ENDPOINT)),
    ),
    "PrometheusRule": document(
        OPERATORS,
        "PrometheusRule",
        closed("groups", groups=some(closed("name rules", name=TEXT, interval=DURATION, rules=some(RULE)))),
    ),
    "HTTPRoute": document(
        "gateway.networking.k8s.io/v1",
        "HTTPRoute",
        closed(
            "parentRefs rules",
            parentRefs=some(closed("name", name=NAME, namespace=NAME, sectionName=NAME)),
            hostnames=some(NAME),
            rules=some(ROUTE),
        ),
    ),
}
KUSTOMIZATION = closed(
    "apiVersion kind",
    apiVersion={"const": "kustomize.config.k8s.io/v1beta1"},
    kind={"const": "Kustomization"},
    namespace=NAME,
    labels=some(closed("pairs", pairs=TEXTS, includeSelectors=FLAG)),
    images=some(closed("name", name=NAME, newName=TEXT, newTag=TEXT, digest=TEXT)),
    resources=some(TEXT),
    generatorOptions=closed(disableNameSuffixHash=FLAG, labels=TEXTS),
    configMapGenerator=some(closed("name files", name=NAME, files=some(TEXT))),
)
