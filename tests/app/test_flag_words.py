"""What people say with a change is kept as they say it, and never acts on whoever reads it."""

import pytest

from app.flag_words import check_said, check_user, plain


@pytest.mark.parametrize("said", ["ada", "Зоя 💧", "o'hara [red]", "👩‍💻", "x" * 200])
def test_whatever_can_be_shown_can_be_said(said: str) -> None:
    """In any script."""
    check_said(said, said)
    check_said(said, "")
    check_user(said)
    assert plain(said) == said


@pytest.mark.parametrize("acting", ["\x00", "\x1b[2J", "\n", "\x9b1m", "\u202e", "\u2028", "\udcff"])
def test_what_would_act_on_a_terminal_is_refused_and_shown_by_its_number(acting: str) -> None:
    """Escapes, ends of lines, turns of direction, and what is no text."""
    for by, reason in ((f"a{acting}", ""), ("ada", f"why{acting}")):
        with pytest.raises(ValueError, match="leave it out, and write one line"):
            check_said(by, reason)
    with pytest.raises(ValueError, match="leave it out"):
        check_user(f"a{acting}b")
    assert plain(acting).startswith(f"\\u{ord(acting[0]):04x}")


def test_names_and_reasons_have_lengths() -> None:
    """Nobody is nobody; a reason may be left out."""
    for by, reason, fix in (
        ("", "", "1 to 200"),
        (" ", "", "1 to 200"),
        ("a" * 201, "", "to 200"),
        ("ada", "a" * 2001, "to 2000"),
    ):
        with pytest.raises(ValueError, match=fix):
            check_said(by, reason)
    for user in ("", " ada", "a" * 201):
        with pytest.raises(ValueError, match="user's name"):
            check_user(user)
