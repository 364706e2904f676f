"""All configuration. Ours are `PHIMILL_*`; the `HF_*` ones stay huggingface_hub's and are read only through it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import platformdirs
from huggingface_hub import constants
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

GIB = 1024**3


class Settings(BaseSettings):
    """Every knob there is, with its default. Sizes are bytes, times are seconds."""

    model_config = SettingsConfigDict(env_prefix="PHIMILL_", extra="forbid")

    home: Path = Field(
        default_factory=lambda: Path(platformdirs.user_data_dir("phimill")),
        description="State: database, work folders, locks. Can be deleted: the Hub is the truth.",
    )
    toolchains: Path = Field(
        default_factory=lambda: Path(platformdirs.user_cache_dir("phimill")) / "toolchains",
        description="One Python environment per backend, shared by every home.",
    )
    database_url: str | None = Field(
        default=None,
        description="SQLAlchemy URL of a Postgres for several workers. Unset: SQLite in the home.",
    )
    namespace: str | None = Field(
        default=None, description="Where automatic conversions are published. Unset: the token's own account."
    )
    backends: tuple[str, ...] | None = Field(
        default=None, description="Backends to build with, as JSON. Unset: all of them."
    )
    watch: tuple[str, ...] = Field(default=("microsoft",), description="Organisations whose Phi releases are built.")
    poll_seconds: float = Field(default=300.0, gt=0, description="How often the watcher looks when no hint comes.")
    webhook_secret: SecretStr | None = Field(
        default=None, description="Shared secret of the webhook endpoint. Unset: the endpoint is off."
    )
    signing_key: Path | None = Field(
        default=None,
        description="PEM file with the elliptic curve private key that signs what is published. Unset: nothing is.",
    )
    threads: int | None = Field(default=None, gt=0, description="Threads for converters. Unset: every core.")
    memory_budget: int | None = Field(
        default=None,
        gt=0,
        description="Bytes that all converters together may hold. Unset: 80 % of what is there.",
    )
    build_timeout: float = Field(default=6 * 3600.0, gt=0, description="Seconds one converter call may take.")
    disk_floor: int = Field(default=1 * GIB, ge=0, description="Free bytes that a build must leave on the disk.")
    split_bytes: int = Field(default=45 * GIB, gt=0, description="GGUF files above this size are split.")
    torch_backend: str = Field(
        default="cpu", description="uv's --torch-backend for toolchains, when no local wheels are offered."
    )
    sandbox: str = Field(
        default="auto",
        pattern="^(auto|strict)$",
        description="strict refuses to run without Landlock and seccomp.",
    )
    gate_fp32: float = Field(default=1e-3, gt=0, description="Highest mean KL for FP32 variants.")
    gate_fp16: float = Field(default=1e-3, gt=0, description="Highest mean KL for FP16 variants.")
    gate_int8: float = Field(default=1e-2, gt=0, description="Highest mean KL for INT8 variants.")
    gate_int4: float = Field(default=0.15, gt=0, description="Highest mean KL for INT4 and smaller variants.")
    gate_runtime: float = Field(
        default=1e-3,
        gt=0,
        description="Highest mean KL of a backend's unquantized export against the source.",
    )
    person_running: int = Field(default=1, gt=0, description="Builds of one person that run at once.")
    person_waiting: int = Field(default=8, gt=0, description="Builds that one person may have waiting and running.")
    person_daily: int = Field(default=40, gt=0, description="Builds that one person may ask for in 24 hours.")
    address_daily: int = Field(default=80, gt=0, description="Builds that one address may ask for in 24 hours.")
    address_reads: int = Field(
        default=60, gt=0, description="Checks, advice and plans that one address may ask for in a minute."
    )
    address_searches: int = Field(
        default=240, gt=0, description="Searches, one per letter typed, that one address may make in a minute."
    )
    queue_limit: int = Field(default=100, gt=0, description="Builds of people in the queue, after which it is full.")
    proxies: int = Field(
        default=0,
        ge=0,
        description="Proxies of yours in front of the page: where in X-Forwarded-For a visitor's address stands,"
        " counted from the right. 0: there are none, and the header is not believed. On a Space at least 1.",
    )
    host: str = Field(default="127.0.0.1", description="Address the web page listens on.")
    port: int = Field(default=7860, description="Port the web page listens on.")
    log_format: str = Field(
        default="auto",
        pattern="^(auto|console|json)$",
        description="Lines of the log: console for people, json for machines. auto: console on a terminal, else json.",
    )
    log_level: str = Field(
        default="info",
        pattern="^(debug|info|warning|error)$",
        description="What the log is told at least. debug: also every line that converters print.",
    )

    @property
    def endpoint(self) -> str:
        """The Hub, as huggingface_hub sees it (HF_ENDPOINT)."""
        return str(constants.ENDPOINT)

    def secrets(self) -> tuple[str, ...]:
        """Every value in here that is for nobody's eyes."""
        values = [value.get_secret_value() for _, value in self if isinstance(value, SecretStr)]
        if self.database_url:
            try:
                values.append(str(make_url(self.database_url).password or ""))
            except ArgumentError:
                values.append(self.database_url)
        return tuple(values)


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """The settings of this process, read once."""
    return Settings()
