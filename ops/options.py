"""Options that several commands have."""

from ops.usage import UsageError

ALL = "all"


def chosen_backends(text: str) -> tuple[str, ...]:
    """The backends of `--backends`: names with commas between them, each once, or every one there is for `all`."""
    from app.streaming.backends import NAMES  # asking for help should not wait for drivers

    if text.strip() == ALL:
        return NAMES
    chosen = tuple(name.strip() for name in text.split(","))
    if unknown := [name for name in chosen if name not in NAMES]:
        raise UsageError(f"There is no backend {unknown[0]!r}: use some of {', '.join(NAMES)}, or {ALL}.")
    if len(set(chosen)) < len(chosen):
        raise UsageError(f"--backends {text}: name different backends, each once.")
    return chosen
