"""A mark on Grafana's time axis for each change of the flag, where a person has named their Grafana."""

import logging

from app.settings import Settings

log = logging.getLogger(__name__)

PATIENCE_S = 3.0
TAGS = ["streamgauge", "flag"]


async def annotate(settings: Settings, text: str) -> bool:
    """Post an annotation (https://grafana.com/docs/grafana/latest/developers/http_api/annotations/) to every dashboard.

    False when it could not be: that is logged, and the change that it tells of holds all the same.
    """
    if not settings.grafana_url:
        return False
    import httpx2  # here, as an API needs no HTTP client otherwise

    headers = {"Authorization": f"Bearer {settings.grafana_token}"} if settings.grafana_token else {}
    url = f"{settings.grafana_url.rstrip('/')}/api/annotations"
    try:
        async with httpx2.AsyncClient(timeout=PATIENCE_S) as client:
            answer = await client.post(url, json={"text": text, "tags": TAGS}, headers=headers)
            answer.raise_for_status()
    except httpx2.HTTPError as error:
        log.warning("no annotation at %s: %s. Check STREAMGAUGE_GRAFANA_URL and STREAMGAUGE_GRAFANA_TOKEN.", url, error)
        return False
    return True
