"""LLM scorers: which models give 1-5 votes, by which criteria, and how votes become one value; or read answers."""

import re
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from pangu_rl.config.base import Strict

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Name = Annotated[str, Field(pattern=r"^[\w.-]+$", max_length=64)]

CANARY_CRITERION = "similarity"
"""The one criterion by which a canary has a clear side."""


class RetryConfig(Strict):
    """What an outage costs before it is one: 429, 5xx, timeouts and broken connections are tried again."""

    attempts: PositiveInt = 4
    """Requests per vote, the first included; a reply that is no verdict uses one up too."""
    backoff_s: PositiveFloat = 1.0
    """Upper end of the first random wait; it doubles with every attempt."""
    max_backoff_s: PositiveFloat = 30.0
    """Longest wait, also for a server that asks for more by `Retry-After`."""
    breaker_failures: PositiveInt = 5
    """Votes lost to outages in a row after which the scorer is left alone."""
    breaker_cooldown_s: NonNegativeFloat = 30.0
    """How long it is left alone; then one vote tries, and the others wait for how it fares."""


class LimitsConfig(Strict):
    """What a scorer may be asked."""

    timeout_s: PositiveFloat = 60.0
    """Deadline of one request, from connecting to the last byte."""
    concurrency: PositiveInt = 8
    """Requests under way at once, per process."""
    requests_per_minute: PositiveFloat | None = None
    """Per process; null means no limit."""
    token_budget: PositiveInt | None = None
    """Tokens read and written that this scorer may cost, counted in `cache` and so over all workers and restarts;
    beyond it the run stops. Requests under way at that moment may pass it."""


class ScorerEngineConfig(Strict):
    """A vLLM engine of ours, in a Ray actor of the run."""

    devices: PositiveInt = 1
    """Tensor-parallel size on npu and cuda; on cpu, 1."""
    threads: PositiveInt = 1
    """Threads on cpu."""
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    max_model_tokens: PositiveInt = 16384
    """Prompt plus reply; a longer request has no vote. The default holds three texts of `max_chars` 6000 each at 1.2
    characters a token (English has about four, digits and formulas about two, Chinese one to two), the criterion and a
    reply. Pictures need room of their own."""
    max_concurrent: PositiveInt = 64
    kv_cache_gib: PositiveFloat | None = 4.0
    """On each device of the engine; null lets it take `memory_share` of the device. All together must hold one request
    of `max_model_tokens`: 4 GiB are 256 KiB a token, which a dense model of 32 billion parameters with grouped queries
    needs."""
    memory_share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.9
    eager: bool = True
    """Skip graph capture and compilation: a shorter start, slower replies."""


class ScorerConfig(Strict):
    name: Name
    """Stands in votes, messages and the cache."""
    model: str
    """The model's name at its endpoint; for an engine of ours, its folder, a run or a name on the hub."""
    base_url: str | None = None
    """An OpenAI-compatible endpoint, such as `http://127.0.0.1:8000/v1`."""
    engine: ScorerEngineConfig | None = None
    """An engine of ours instead of an endpoint; the run starts it."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the key; null for an endpoint that asks for none."""
    sees_pictures: bool = True
    """False for a text-only model: it is sent no pictures, and not asked by criteria that need them."""
    temperature: NonNegativeFloat | None = 0.0
    """Null leaves it out, for models that refuse it."""
    seed: NonNegativeInt | None = 0
    """Null leaves it out, for endpoints that refuse it."""
    max_reply_tokens: PositiveInt = 256
    max_reason_chars: PositiveInt | None = 300
    """`maxLength` of the reason in the schema of the reply; null leaves it out, for endpoints that refuse it."""
    retry: RetryConfig = RetryConfig()
    limits: LimitsConfig = LimitsConfig()

    @field_validator("base_url")
    @classmethod
    def plain_http(cls, url: str | None) -> str | None:
        if url is None:
            return None
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http:// or https:// address")
        if parts.username or parts.password or parts.query or parts.fragment:
            raise ValueError("must hold no user, password, query or fragment: the key is named by api_key_env")
        return url.rstrip("/")

    @field_validator("api_key_env")
    @classmethod
    def names_a_variable(cls, name: str | None) -> str | None:
        # The value is not repeated: whoever pastes a key here must not find it in a log.
        if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,63}", name):
            raise ValueError("is no name of an environment variable: export the key and write the variable's name here")
        return name

    @model_validator(mode="after")
    def has_one_backend(self) -> "ScorerConfig":
        if (self.base_url is None) == (self.engine is None):
            raise ValueError(f"scorer {self.name}: give either a base_url (an endpoint) or an engine (one of ours)")
        if self.engine is not None and self.api_key_env is not None:
            raise ValueError(f"scorer {self.name}: api_key_env is for endpoints, and this one has an engine: remove it")
        return self


class CanaryConfig(Strict):
    """Answers whose quality is known, scored along with the real ones."""

    share: Share = 0.02
    """Share of items that bring one along; 0 turns them off."""
    max_fooled_share: Share = 0.2
    """Above this share on the wrong side (a bad answer 4 or more, a good one 2 or less) a scorer is reported."""
    stop: bool = False
    """Whether such a scorer also ends the run."""


class ScorersConfig(Strict):
    scorers: tuple[ScorerConfig, ...]
    criteria: tuple[str, ...] = ("hallucination", "similarity", "linguistic_quality", "consistency")
    """Built-in names: these four, and for curation `text_quality`, `no_loops`, `question_answer`, `picture_relevance`,
    `complementarity` and `information_density`. Or paths of prompt files of your own that end in `.md`. A criterion
    whose parts an item lacks (a picture, a reference) is not asked."""
    aggregation: Literal["min_of_means", "mean_of_means", "min_of_min"] = "min_of_means"
    """Over criteria, of what is taken over scorers."""
    on_missing_vote: Literal["mask", "drop_scorer"] = "mask"
    """`mask`: one missing vote and the item has no verdict. `drop_scorer`: the item is judged by the scorers that gave
    all their votes, and has no verdict when there is none."""
    cache: str
    """SQLite file of replies and tokens spent; a run that was killed goes on from it without paying twice."""
    media_root: str | None = None
    """Folder under which the pictures of prompts lie; nothing outside it is ever read."""
    max_image_mib: PositiveFloat = 8.0
    """A larger picture file is refused."""
    max_chars: PositiveInt = 6000
    """Characters of question, reference and response each that a scorer sees; a cut is marked. Three of them must fit
    `max_model_tokens` of an engine or the context of an endpoint: what does not fit has no vote."""
    canaries: CanaryConfig = CanaryConfig()

    @model_validator(mode="after")
    def can_score(self) -> "ScorersConfig":
        names = [scorer.name for scorer in self.scorers]
        if not names or not self.criteria:
            raise ValueError("name at least one scorer and one criterion")
        for what, listed in (("scorers", names), ("criteria", self.criteria)):
            if len(set(listed)) < len(listed):
                raise ValueError(f"{what} are listed twice in {list(listed)}: give each one entry")
        stems: dict[str, str] = {}
        for criterion in self.criteria:
            stem = Path(criterion).stem if criterion.endswith(".md") else criterion
            if stem in stems:
                raise ValueError(
                    f"criteria {stems[stem]} and {criterion} would both be called {stem} in votes: rename one file"
                )
            stems[stem] = criterion
        if self.canaries.share > 0 and CANARY_CRITERION not in self.criteria:
            raise ValueError(
                f"canaries are judged by the criterion {CANARY_CRITERION}, and criteria are {list(self.criteria)}: "
                "add it, or set canaries.share to 0"
            )
        return self


class JudgeConfig(Strict):
    """A model that reads the final answer out of what rules cannot read, for benchmarks; it never sees a gold."""

    scorer: ScorerConfig
    cache: str
    """SQLite file of replies and tokens spent; a run that was killed goes on from it without paying twice."""
    max_chars: PositiveInt = 6000
    """Characters of question and response each that the judge sees; a cut is marked, and the end is kept."""
    audit_share: Share = 0.05
    """Share of the answers that rules did read which the judge reads too: how often do both come to one verdict?"""

    @property
    def scorers(self) -> tuple[ScorerConfig, ...]:
        return (self.scorer,)


class WriterConfig(Strict):
    """A model that writes texts about rows, for curation."""

    scorer: ScorerConfig
    """Its endpoint and limits; `max_reply_tokens` must hold what it writes."""
    cache: str
    """SQLite file of replies and tokens spent; a run that was killed goes on from it without paying twice."""
    max_image_mib: PositiveFloat = 8.0
    """A larger picture file is refused."""
    max_chars: PositiveInt = 6000
    """Characters of each text of a row that it sees; a cut is marked, and the end is kept."""


FILES: dict[str, type[ScorersConfig] | type[JudgeConfig]] = {
    "llm_score": ScorersConfig,
    "judged_benchmark": JudgeConfig,
}
"""Reward functions that ask models -> what the file holds that their argument `config` names."""
