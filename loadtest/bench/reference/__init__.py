"""The reference: the same job as most teams would write it today, as the baseline of `streamgauge perf`.

Celery's gevent pool, the openai SDK's own objects, redis-py with RPUSH + PUBLISH + EXPIRE as plain calls and one
pub/sub connection a stream, FastAPI's StreamingResponse. Each part is used as its manual says and nothing is slowed
down; messages are kept in Valkey and not in PostgreSQL, which makes it cheaper than the real thing would be.
"""
