"""A scripted model's name says how it speaks."""

import random

import pytest

from ops.model_script import MAX_CHUNKS, PROFILES, Script, ScriptError, Span, parse, word


def test_a_bare_name_is_the_steady_profile() -> None:
    """And a name of another model is none of ours."""
    assert parse("scripted") == PROFILES["steady"] == Script()
    assert parse("gpt-4o-mini") is None


def test_parameters_override_the_profile() -> None:
    """Constants and log-normal spans, the length, the seed and the fault."""
    script = parse("scripted?profile=slow&gap=0.05&ttft=lognormal(0.2,0.5)&chunks=7&seed=3&fault=cut&at=2")
    assert script == Script(Span(0.2, 0.5), Span(0.05), Span(7), 3, "cut", 2)
    assert parse("scripted?profile=slow") == PROFILES["slow"]


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("gap=quick", "gap=quick"),
        ("gap=-1", "gap=-1"),
        ("gap=nan", "gap=nan"),
        ("ttft=lognormal(1)", "lognormal(MEDIAN,SIGMA)"),
        ("chunks=1e9", "chunks=1e9"),
        ("seed=-4", "whole number"),
        ("fault=flood", "429, 500, refuse"),
        ("profile=none", "chat, fast, slow, steady"),
        ("speed=3", "speed is no parameter"),
    ],
)
def test_a_name_that_makes_no_sense_says_what_would(query: str, named: str) -> None:
    """The error names the parameter and the accepted form."""
    with pytest.raises(ScriptError) as error:
        parse(f"scripted?{query}")
    assert named in str(error.value)


def test_the_same_seed_speaks_the_same() -> None:
    """Lengths and instants are drawn from the seed alone; they never go back in time."""
    script = PROFILES["chat"]
    draws = [list(script.instants(50, random.Random(7))) for _ in range(2)]
    assert draws[0] == draws[1] == sorted(draws[0])
    assert list(script.instants(50, random.Random(8))) != draws[0]


def test_the_length_may_be_left_to_max_tokens_and_is_bounded() -> None:
    """`chunks=max` says exactly as much as it may."""
    script = parse("scripted?chunks=max")
    assert script is not None
    assert script.deltas(321, random.Random(1)) == 321
    assert script.deltas(None, random.Random(1)) == MAX_CHUNKS
    assert parse("scripted?chunks=0").deltas(None, random.Random(1)) == 1  # type: ignore[union-attr]  # it parses


def test_the_text_is_prose_that_says_what_it_is() -> None:
    """An answer begins by saying that it is scripted, and never runs out of words."""
    assert "".join(map(word, range(5))) == "This is a scripted answer: "
    assert word(10_000).endswith(" ")
