"""How numbers are read."""

import pytest

from loadtest.wording import counted


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, "0 load workers"), (1, "1 load worker"), (2, "2 load workers"), (1200, "1,200 load workers")],
)
def test_one_of_a_thing_is_no_plural(count: int, said: str) -> None:
    """Whatever it is that is counted."""
    assert counted(count, "load worker") == said
