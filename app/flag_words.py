"""What people say with a change of the flag, and what of it can be kept: the same by command and over HTTP.

The history is shown on other people's terminals, so nothing in it may move a cursor, end a line or turn its direction.
"""

import unicodedata

MOST_BY, MOST_REASON, MOST_USER = 200, 2000, 200
UNSEEN = {"Cc", "Cs", "Zl", "Zp"}
"""Controls, halves of characters, and ends of lines and paragraphs."""
TURNING = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}


def check_said(by: str, reason: str) -> None:
    """Raise `ValueError` unless this can be written into the history."""
    _check("Who changes the flag (by)", by, MOST_BY)
    if reason:
        _check("The reason", reason, MOST_REASON)


def check_user(user: str) -> None:
    """Raise `ValueError` unless an X-Streamgauge-User header can say this name."""
    _check("A user's name", user, MOST_USER)
    if user != user.strip():
        raise ValueError(f"A user's name can't begin or end with a space, as a header can't: say {user.strip()!r}.")


def plain(text: str) -> str:
    """Give a text for a terminal: what would act there is shown by its number instead."""
    return "".join(f"\\u{ord(each):04x}" if _acts(each) else each for each in text)


def _check(what: str, text: str, most: int) -> None:
    if not text.strip():
        raise ValueError(f"{what} is empty: say it in 1 to {most} characters.")
    if len(text) > most:
        raise ValueError(f"{what} has {len(text)} characters: shorten it to {most}.")
    if acting := next(filter(_acts, text), None):
        raise ValueError(f"{what} holds the control character {plain(acting)}: leave it out, and write one line.")


def _acts(character: str) -> bool:
    return unicodedata.category(character) in UNSEEN or unicodedata.bidirectional(character) in TURNING
