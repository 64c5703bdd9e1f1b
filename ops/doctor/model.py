"""The model's server: whether it answers, takes the key, and has the model."""

import httpx2

from app.settings import Settings
from ops.doctor.finding import Finding, Severity, error, note, shortened, warning, well

PATIENCE_S = 5.0
REFUSED = (401, 403)
UNLISTED = (404, 405, 501)
"""What servers without a list of models answer; the canary asks them."""


async def examine_model(settings: Settings) -> Finding:
    """Ask for the list of models, which costs nothing."""
    check, base = "model", settings.openai_base_url
    if not {"openai_base_url", "openai_api_key"} & settings.model_fields_set:
        fix = "Set both as the workers have them, where the model can be reached; a canary (--api) asks it, too."
        return note(check, "was not asked", "neither OPENAI_BASE_URL nor OPENAI_API_KEY is set here", fix)
    headers = {"Authorization": f"Bearer {settings.openai_api_key}"}
    try:
        async with httpx2.AsyncClient(timeout=PATIENCE_S) as http:
            answer = await http.get(f"{base.rstrip('/')}/models", headers=headers)
    except (httpx2.HTTPError, OSError) as cause:
        fix = "Start the model's server, or correct OPENAI_BASE_URL: it ends in /v1 with most."
        return error(check, "can't be reached: every answer will fail with `upstream`", shortened(cause) or base, fix)
    if answer.status_code in REFUSED:
        fix = "Correct OPENAI_API_KEY in the workers' environment, and start them again."
        return error(check, "refuses the key: every answer will fail with `upstream`", f"{answer.status_code}", fix)
    if answer.status_code in UNLISTED:
        return well(check, f"answers, and keeps no list of models ({answer.status_code})")
    if answer.status_code != httpx2.codes.OK:
        return error(
            check, "answers with an error", f"{answer.status_code} {answer.text[:200]}", "See that server's log."
        )
    return _listed(settings.openai_model, answer)


def _listed(name: str, answer: httpx2.Response) -> Finding:
    try:
        names = [str(model["id"]) for model in answer.json()["data"]]
    except (ValueError, KeyError, TypeError):
        return warning(
            "model", "answers, and not as an OpenAI-compatible server", answer.text[:100], "Check OPENAI_BASE_URL."
        )
    if name not in names:
        fix = f"Set OPENAI_MODEL to one of its own: {', '.join(names[:5])}."
        return warning("model", f"does not list {name}", f"{len(names)} models are listed", fix)
    return well("model", f"answers, and lists {name}")


def seen_by_workers(finding: Finding) -> Finding:
    """Say of a model that can't be used from here what a message shows that came through all the same."""
    if finding.severity is not Severity.ERROR:
        return finding
    fix = "Nothing, unless the doctor should ask it, too: then give it the workers' URL, key and way to the model."
    trouble = finding.finding.partition(":")[0]
    return note(finding.check, f"{trouble} from here, and a message came through all the same", finding.evidence, fix)
