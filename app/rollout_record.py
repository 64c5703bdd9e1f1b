"""How the last rollout stands, for people to see: its controller tells it, the API shows it, and nothing goes by it."""

from datetime import datetime

from pydantic import BaseModel, ValidationError

from app.database import Database

GRACE_S = 30.0
"""So late a word may come: figures, the flag and the webhook of a gate may each take their time before it."""


class ObjectiveWord(BaseModel):
    """One objective of a judgement; what was found of either backend is in its unit, and empty if there is nothing."""

    name: str
    verdict: str
    candidate: str
    baseline: str
    reason: str


class JudgementWord(BaseModel):
    """What the guard said of one interval, and what followed from it."""

    at: datetime
    percent: float
    verdict: str
    beside: str
    decision: str
    objectives: list[ObjectiveWord]


class RolloutWord(BaseModel):
    """A rollout as its controller sees it. `step` counts from 1; `since` is when that began, if it has."""

    candidate: str
    baseline: str
    phase: str
    generation: int
    steps: list[float]
    step: int
    since: datetime | None
    due_s: float | None
    """In so many seconds comes the next word; null when none is to come."""
    why: str
    judgement: JudgementWord | None
    """The last one."""


class RolloutHeard(RolloutWord):
    """The same as of now: `due_s` is negative for a word that is late, and one that `is_overdue` hardly comes."""

    updated_at: datetime
    silent_s: float
    is_overdue: bool


class RolloutRecord:
    """The one row of it. All its times are the database's, so that no two clocks are compared."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def tell(self, word: RolloutWord, age_s: float = 0.0) -> None:
        """Keep this in the place of what was told before, unless that is of a newer generation: another rollout's."""
        async with self._database.driver() as connection:
            await connection.execute(_TELL, word.generation, word.model_dump_json(), age_s)

    async def heard(self) -> RolloutHeard | None:
        """Give the last word; None if there is none, or none that this version understands."""
        async with self._database.driver() as connection:
            row = await connection.fetchrow(_HEARD)
        if row is None:
            return None
        try:
            word = RolloutWord.model_validate_json(row["word"])
        except ValidationError:
            return None
        due_s = None if word.due_s is None else word.due_s - row["silent_s"]
        return RolloutHeard(
            **{**dict(word), "due_s": due_s},
            updated_at=row["updated_at"],
            silent_s=row["silent_s"],
            is_overdue=due_s is not None and due_s < -GRACE_S,
        )


_TELL = """
INSERT INTO rollout (id, generation, word, updated_at)
VALUES (1, $1, $2::jsonb, clock_timestamp() - make_interval(secs => $3))
ON CONFLICT (id) DO UPDATE SET generation = excluded.generation, word = excluded.word, updated_at = excluded.updated_at
WHERE rollout.generation <= excluded.generation
"""
_HEARD = """
SELECT word::text, updated_at, extract(epoch FROM clock_timestamp() - updated_at)::float8 AS silent_s FROM rollout
"""
