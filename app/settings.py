"""Every knob of the app, frozen and typed; the only reader of the environment."""

import os
import re
import sys
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AliasChoices, Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from app import sentinel_url

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

# Pydantic's own words speak of types and input; who reads them has set a variable.
FIXES = {
    "int_parsing": "write a whole number",
    "float_parsing": "write a number",
    "finite_number": "write a number",
    "bool_parsing": "write true or false",
    "greater_than": "write a number above {gt:g}",
    "greater_than_equal": "write {ge:g} or more",
    "less_than_equal": "write {le:g} or less",
    "literal_error": "write {expected}",
}
PREFIX, LIKE = "STREAMGAUGE_", 0.85
"""What our variables begin with, and how alike a name must be to be taken for one of them, misspelt."""
Backend = Literal["polling", "pubsub", "notify", "streams"]
"""Every backend by its name; `app.streaming.pairs` opens it."""
IN_ROWS = ("polling", "notify")
"""Those whose streams have their whole state in a row of the database, and their chunks in rows, too."""

API_KEY = r"[\w.@+-]{1,200}:[0-9a-fA-F]{64}"
"""One entry of `api_keys`: an owner's name, and the SHA-256 of a key in hex."""
LONGEST_ESCAPE_BYTES = 12
"""A character in JSON, as a pair of surrogates: `\\ud83c\\udf0a`."""
ROOM_BYTES = 8192
"""For the rest of a body: a model's name of 300 characters, or a title of 200, as long."""


def _named(name: str) -> AliasChoices:
    """Accept `NAME` from the environment and `name` from code."""
    return AliasChoices(name, name.lower())


def _check_port(url: str) -> None:
    try:
        _ = urlsplit(url).port
    except ValueError as error:
        raise ValueError(
            "a port is a number from 1 to 65535; a password's / # ? and @ are written %2F %23 %3F %40"
        ) from error


class Settings(BaseSettings):
    """What a process of the app needs to know; built once by `main` or `worker` and passed in."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, populate_by_name=True)

    redis_url: str = Field("redis://127.0.0.1:6379/0", validation_alias=_named("REDIS_URL"))
    store_cluster: bool = False
    """REDIS_URL names a node of a cluster, whose other nodes are found by asking it."""
    broker_url: str = Field("", validation_alias=_named("BROKER_URL"))
    database_url: str = Field(
        "postgresql://streamgauge@127.0.0.1:5432/streamgauge", validation_alias=_named("DATABASE_URL")
    )
    database_pooler: bool = False
    """DATABASE_URL names a pooler in transaction mode."""
    openai_base_url: str = Field("https://api.openai.com/v1", validation_alias=_named("OPENAI_BASE_URL"))
    openai_api_key: str = Field("none", validation_alias=_named("OPENAI_API_KEY"), repr=False)
    openai_model: str = Field("gpt-4o-mini", validation_alias=_named("OPENAI_MODEL"))
    allowed_models: Annotated[tuple[str, ...], NoDecode] = ()

    default_backend: Backend = "pubsub"
    flag_provider: str = Field("", pattern=r"^([\w.]+:\w+)?$")
    """An OpenFeature provider that is asked in the place of the document in the database."""
    api_keys: Annotated[dict[str, str], NoDecode] = Field(default_factory=dict, repr=False)
    """Owners by the SHA-256 of their keys. Who has none gets nothing; with no keys at all everything is everybody's."""
    open: bool = False
    """To serve without keys beyond loopback."""
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    """Origins whose pages may read answers."""
    owner_streams: int = Field(100, ge=0)
    owner_messages_per_minute: int = Field(600, ge=0)
    metrics_token: str = Field("", repr=False)
    operator_token: str = Field("", repr=False)
    grafana_url: str = Field("", pattern="^(https?://.*)?$")
    grafana_token: str = Field("", repr=False)
    max_content_chars: int = Field(32_000, gt=0)
    max_tokens: int = Field(100_000, gt=0)
    max_answer_chars: int = Field(2_000_000, gt=0)
    """Twenty for each token that a message may ask for by default: far above what models say of themselves."""
    database_pool: int = Field(20, gt=0)

    polling_interval_s: float = Field(0.1, gt=0, le=10)
    store_patience_s: float = Field(1, gt=0)
    store_back_s: float = Field(10, ge=0)
    chunk_ttl_s: int = Field(3600, ge=1)
    lease_s: float = Field(15, gt=0)
    lease_grace_s: float = Field(45, ge=0)
    queue_patience_s: float = Field(600, gt=0)
    keep_alive_s: float = Field(15, gt=0)
    silence_s: float = Field(2, gt=0)
    """After this much silence a reader looks into the log again: a lost publish costs this long, not the stream."""

    api_drain_s: float = Field(20, ge=0)
    tidy_every_s: float = Field(15, gt=0)
    write_timeout_s: float = Field(30, gt=0)
    request_timeout_s: float = Field(20, gt=0)
    max_connections: int = Field(20_000, gt=0)

    model_connect_s: float = Field(5, gt=0)
    model_stall_s: float = Field(60, gt=0)
    generation_limit_s: float = Field(900, gt=0)
    commit_budget_s: float = Field(30, gt=0)
    max_attempts: int = Field(5, gt=0)
    worker_concurrency: int = Field(2000, gt=0)
    worker_drain_s: float = Field(30, ge=0)
    worker_visibility_s: float = Field(10, gt=1)
    worker_metrics_host: str = "127.0.0.1"
    worker_metrics_port: int = Field(0, ge=0, le=65535)

    otlp_endpoint: str = Field("", pattern="^(https?://.*)?$", validation_alias=_named("OTEL_EXPORTER_OTLP_ENDPOINT"))
    trace_folder: Path | None = None
    trace_ratio: float = Field(1.0, ge=0, le=1)
    log_format: Literal["auto", "json", "console"] = "auto"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] = "INFO"
    log_content: bool = False

    page_links: Annotated[dict[str, str], NoDecode] = Field(default_factory=dict)
    control_url: str = Field("", pattern="^(https?://.*)?$")

    @field_validator("allowed_models", "cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def _are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(re.fullmatch(r"https?://[\w.-]+(:\d+)?|https?://\[[\da-f:]+\](:\d+)?", origin) for origin in value):
            raise ValueError("name each origin as a browser does, such as https://chat.example.org; * is none")
        return value

    @field_validator("page_links", mode="before")
    @classmethod
    def _pair(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        pairs = [part.strip().partition("=") for part in value.split(",") if part.strip()]
        if not all(name and url.startswith(("http://", "https://")) for name, _, url in pairs):
            raise ValueError("use Name=https://address, with commas between")
        return {name: url for name, _, url in pairs}

    @field_validator("api_keys", mode="before")
    @classmethod
    def _keys(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        parts = [part.strip() for part in value.split(",") if part.strip()]
        if not all(re.fullmatch(API_KEY, part) for part in parts):
            raise ValueError("use name:sha256,name:sha256,…; `streamgauge key NAME` prints such an entry")
        return {digest.lower(): name for name, _, digest in (part.partition(":") for part in parts)}

    @field_validator("database_url")
    @classmethod
    def _is_postgresql(cls, value: str) -> str:
        try:
            url = make_url(value)
        except (ArgumentError, ValueError) as error:
            raise ValueError("use postgresql://user:password@host:port/database") from error
        if url.get_backend_name() != "postgresql":
            raise ValueError("PostgreSQL is the only database: use postgresql://user:password@host:port/database")
        _check_port(value)
        return url.set(drivername="postgresql").render_as_string(hide_password=False)

    @field_validator("redis_url", "broker_url")
    @classmethod
    def _is_redis(cls, value: str) -> str:
        if sentinel_url.Sentinels.of(value):
            return value
        if value and not value.startswith(("redis://", "rediss://", "unix://")):
            raise ValueError(
                f"use redis://host:port/0, rediss:// for TLS, unix:///path, or for sentinels {sentinel_url.FORM}"
            )
        _check_port(value)
        if not value.startswith("unix") and not re.fullmatch(r"/?\d*", urlsplit(value).path):
            raise ValueError("a database is a number, as in redis://host:6379/0")
        return value

    @field_validator("openai_base_url")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("use http://host:port/v1 or https://host/v1")
        _check_port(value)
        return value

    @model_validator(mode="after")
    def _broker_defaults_to_store(self) -> Self:
        if not self.broker_url:
            if self.store_cluster:
                raise ValueError(
                    "STREAMGAUGE_STORE_CLUSTER is true, and a cluster can't be Celery's broker: set BROKER_URL to a "
                    "single server"
                )
            object.__setattr__(self, "broker_url", self.redis_url)
        return self

    @model_validator(mode="after")
    def _cluster_has_no_sentinels(self) -> Self:
        if self.store_cluster and sentinel_url.is_sentinel(self.redis_url):
            raise ValueError(
                "REDIS_URL names sentinels, and STREAMGAUGE_STORE_CLUSTER is true: let it name one of the cluster's "
                "nodes, redis://host:port, since a cluster fails over by itself; or leave STREAMGAUGE_STORE_CLUSTER out"
            )
        return self

    @model_validator(mode="after")
    def _streams_need_one_server(self) -> Self:
        if self.store_cluster and self.default_backend == "streams":
            raise ValueError(
                "STREAMGAUGE_DEFAULT_BACKEND=streams needs a single server, and STREAMGAUGE_STORE_CLUSTER is true: "
                "set STREAMGAUGE_DEFAULT_BACKEND=pubsub for a cluster"
            )
        return self

    @model_validator(mode="after")
    def _notify_needs_a_session(self) -> Self:
        if self.database_pooler and self.default_backend == "notify":
            raise ValueError(
                "STREAMGAUGE_DEFAULT_BACKEND=notify needs a session of its own, and STREAMGAUGE_DATABASE_POOLER is "
                "true: set STREAMGAUGE_DEFAULT_BACKEND=pubsub behind a pooler, or polling"
            )
        return self

    @property
    def lost_s(self) -> float:
        """After so long without a word a producer is lost, and so is a host."""
        return self.lease_s + self.lease_grace_s

    @property
    def max_body_bytes(self) -> int:
        """The longest body of a request: the longest message in JSON's longest escapes, and all that goes with it."""
        return LONGEST_ESCAPE_BYTES * self.max_content_chars + ROOM_BYTES

    @property
    def secrets(self) -> tuple[str, ...]:
        """What no log may show; a key's digest is one too, since it signs the key's sessions."""
        tokens = (self.openai_api_key, self.operator_token, self.metrics_token, self.grafana_token)
        return *tokens, *self.api_keys

    def allows_model(self, name: str) -> bool:
        """Tell whether a message may ask for this model: the default one, or one matched by `allowed_models`."""
        return name == self.openai_model or any(fnmatchcase(name, glob) for glob in self.allowed_models)


VARIABLES = {
    str(alias.choices[0]) if isinstance(alias := info.validation_alias, AliasChoices) else PREFIX + name.upper()
    for name, info in Settings.model_fields.items()
}
"""Every environment variable that the app reads."""
OURS = VARIABLES | {"STREAMGAUGE_API_KEY"}
"""And the one that commands read."""


def load_settings() -> Settings:
    """Read the environment, or end the process with each bad setting's name and what it should be.

    A variable that is named nearly as a setting is told, and does nothing.
    """
    for name in os.environ.keys() - OURS:
        bare = name.removeprefix(PREFIX)
        meant = [bare] if bare in VARIABLES else get_close_matches(name, OURS, 1, LIKE)
        if name.startswith(PREFIX) and meant:
            print(f"{name} is no setting: is {meant[0]} meant?", file=sys.stderr)  # noqa: T201 - no log is set up yet
    try:
        return Settings()
    except ValidationError as error:
        lines = [f"  {_told(problem)}" for problem in error.errors()]
        print("These settings do not parse; correct them and start again:", *lines, sep="\n", file=sys.stderr)  # noqa: T201 - no log is set up yet
        raise SystemExit(2) from None


def _told(problem: "ErrorDetails") -> str:
    """Which variable, and what to write instead; what is wrong of several together names them itself."""
    words = FIXES.get(problem["type"])
    fix = words.format(**problem.get("ctx", {})) if words else problem["msg"].removeprefix("Value error, ")
    if not problem["loc"]:
        return fix
    name = str(problem["loc"][0])
    return f"{name if name.isupper() else PREFIX + name.upper()}: {fix}"
