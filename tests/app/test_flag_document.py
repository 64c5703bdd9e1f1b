"""The flag's document: rules that are written and read back, shares that hold, and those that can't be."""

import contextlib
import json
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.streaming.backends import NAMES, SAFE
from app.streaming.flag import BackendFlag
from app.streaming.flag_document import FORCED, USER, ForeignDocumentError, Rules, document_for, document_of, rules_of

names = st.sampled_from(NAMES)


@st.composite
def rules(draw: st.DrawFn) -> Rules:
    """Any rules that there can be."""
    default = draw(names)
    others = [name for name in NAMES if name != default]
    weights = draw(st.lists(st.integers(1, 3_000), max_size=len(others)))
    shares = {name: weight / 100 for name, weight in zip(others, weights, strict=False)}
    users = draw(st.dictionaries(st.text(min_size=1, max_size=5), names, max_size=3))
    return Rules(default, shares, users, draw(st.booleans()), draw(st.booleans()))


def flag_of(given_rules: Rules) -> BackendFlag:
    flag = BackendFlag("polling", SAFE, NAMES)
    flag.learn(1, json.dumps(document_of(given_rules, NAMES)))
    return flag


@given(rules())
def test_rules_are_read_back_as_they_were_written(written: Rules) -> None:
    """Through JSON, and with its keys in another order, as the database gives them back."""
    read = rules_of(json.loads(json.dumps(document_of(written, NAMES), sort_keys=True)))
    assert read.split == pytest.approx(written.split)
    assert (read.users, read.is_on, read.must_leave) == (written.users, written.is_on, written.must_leave)


def test_a_share_is_kept_and_a_smaller_one_lies_within_a_larger() -> None:
    """Of 4,000 conversations about 10 % and 30 %; each that the 10 % holds, the 30 % holds. The same in reverse."""
    ids = [uuid4() for _ in range(4_000)]

    def on_pubsub(given_rules: Rules) -> set[UUID]:
        flag = flag_of(given_rules)
        return {each for each in ids if flag.choose(each, {}) == "pubsub"}

    ten, thirty = (on_pubsub(Rules("polling", {"pubsub": share})) for share in (10, 30))
    assert len(ten) == pytest.approx(400, rel=0.25)
    assert len(thirty) == pytest.approx(1_200, rel=0.15)
    assert ten <= thirty
    assert on_pubsub(Rules("pubsub", {"polling": 70})) == thirty


def test_users_come_before_shares_and_force_before_users() -> None:
    """Until the flag is switched off: then everything is safe."""
    conversation = uuid4()
    chosen = Rules("polling", {"notify": 100}, {"ada": "pubsub"})
    flag = flag_of(chosen)
    assert flag.choose(conversation, {}) == "notify"
    assert flag.choose(conversation, {USER: "ada"}) == "pubsub"
    assert flag.choose(conversation, {USER: "bob"}) == "notify"
    assert flag.choose(conversation, {USER: "ada", FORCED: "streams"}) == "streams"
    off = flag_of(Rules("pubsub", users={"ada": "pubsub"}, is_on=False))
    assert {off.choose(conversation, about) for about in ({}, {USER: "ada"}, {FORCED: "streams"})} == {SAFE}


@pytest.mark.parametrize(
    ("impossible", "why"),
    [
        (Rules("pigeon"), "no backend pigeon"),
        (Rules("polling", {"pubsub": 101}), "pubsub can't get 101 %"),
        (Rules("polling", {"pubsub": 60, "notify": 50}), "at most 100"),
        (Rules("polling", {"pubsub": -1}), "percents"),
        (Rules("polling", {"pubsub": 0.001}), "steps of 0.01"),
        (Rules("polling", {"pubsub": 1e-9}), "steps of 0.01"),
        (Rules("pubsub", {"pubsub": -5}), "pubsub can't get -5 %"),
        (Rules("pubsub", {"pubsub": float("nan")}), "pubsub can't get nan %"),
        (Rules("polling", {"pubsub": float("nan")}), "percents"),
        (Rules("polling", {"polling": 10}), "is the default"),
        (
            Rules("pubsub", {"pubsub": 10}),
            "first make polling the default, then pubsub=10 gives these shares, and polling the rest",
        ),
        (Rules("pubsub", dict.fromkeys(NAMES, 25)), "leave it out"),
        (Rules("polling", users={"ada": "pigeon"}), "no backend pigeon"),
    ],
)
def test_rules_that_can_not_be_are_refused(impossible: Rules, why: str) -> None:
    """With what is possible."""
    with pytest.raises(ValueError, match=why):
        document_of(impossible, NAMES)


def test_a_document_of_somebodys_is_told_from_ours() -> None:
    """Whatever it is: it has more than our rules can say, or is none."""
    ours = document_for("polling", NAMES)
    more = json.loads(json.dumps(ours))
    more["flags"]["stream-backend"]["targeting"]["if"][-1] = {"fractional": [{"var": "tier"}, ["pubsub", 1]]}
    foreign: list[dict[str, Any]] = [more, {"flags": {}}, {"flags": {"stream-backend": 3}}, {}]
    for document in foreign:
        with pytest.raises(ForeignDocumentError, match="flag set BACKEND"):
            rules_of(document)


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.sampled_from([*NAMES, "fractional", "if", "var", "in", "user", 10**400]),
)  # fmt: skip
KEYS = st.one_of(st.sampled_from(["if", "in", "var", "fractional", "/", "user"]), st.text(max_size=3))
ANYTHING = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=3))


@st.composite
def altered_documents(draw: st.DrawFn) -> Any:
    """One of ours in which one place holds something else."""
    document = json.loads(json.dumps(document_of(draw(rules()), NAMES)))
    at, key = document, "flags"
    while isinstance(at[key], dict | list) and at[key] and draw(st.integers(0, 4)):
        at = at[key]
        key = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
    at[key] = draw(ANYTHING)
    return document


def nested(levels: int) -> Any:
    inner: Any = 1
    for _ in range(levels):
        inner = {"!": [inner]}
    return {"flags": {"stream-backend": {"state": "ENABLED", "variants": {}, "targeting": inner}}}


@settings(max_examples=150)
@given(document=st.one_of(altered_documents(), ANYTHING))
@example(document=nested(300))
def test_whatever_a_document_holds_a_message_gets_a_backend(document: Any) -> None:
    """And its rules are read or refused, with no other error; what this writes is read as it was written."""
    flag = BackendFlag("polling", SAFE, NAMES)
    flag.learn(1, json.dumps(document))
    assert flag.choose(UUID(int=1), {USER: "ada", FORCED: "streams"}) in NAMES
    with contextlib.suppress(ForeignDocumentError):
        assert document_of(rules_of(document), NAMES)
