"""Any OpenAI-compatible endpoint as a backend. The key comes from the environment and leaves in one header only."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import openai
from openai.types.chat import ChatCompletion

from pangu_rl.config.sections.scorers import ScorerConfig
from pangu_rl.errors import ConfigError
from rewards.scorers.records import BackendError, Reply, Request
from rewards.scorers.redaction import Redaction
from rewards.scorers.untrusted import one_line

CONNECT_S = 5.0
CHARS_PER_TOKEN = 2
"""For endpoints that report no usage: rather too many tokens than too few."""
MAX_TOKENS = 10**9
"""No reply costs so many; a larger count is babble, and would not fit the sum of them."""
MAX_REPLY_BYTES = 4 * 2**20
"""Room for any reply with its reasoning; an endpoint that sends more is left."""


class OpenAIEndpoint:
    """Follows `Backend`. Retries are the scorer's business, so the client makes none."""

    def __init__(self, config: ScorerConfig) -> None:
        """Raises `ConfigError`: the environment variable of the key is not set."""
        self.identity = f"{config.base_url} {config.model}"
        self._model = config.model
        self._timeout_s = config.limits.timeout_s
        key = _key(config)
        self._without_key = Redaction(key)
        self._client = openai.AsyncOpenAI(
            base_url=config.base_url,
            api_key=key or "none",
            max_retries=0,
            timeout=openai.Timeout(self._timeout_s, connect=min(CONNECT_S, self._timeout_s)),
            default_headers={"Accept-Encoding": "identity"},
            # A redirect would carry the prompts to a host that nobody configured.
            http_client=openai.DefaultAsyncHttpxClient(
                follow_redirects=False, event_hooks={"response": [_bound_response]}
            ),
        )
        # The client takes these from OPENAI_ORG_ID and OPENAI_PROJECT_ID and sends them to whatever address it has.
        self._client.organization = self._client.project = None

    async def complete(self, request: Request) -> Reply:
        optional = {"temperature": request.temperature, "seed": request.seed}
        try:
            # The client's own timeout starts anew with every byte; a trickle must end too.
            async with asyncio.timeout(self._timeout_s):
                completion = await self._client.chat.completions.create(
                    model=self._model,
                    messages=list(request.messages),
                    max_completion_tokens=request.max_tokens,
                    response_format={
                        "type": "json_schema",
                        "json_schema": {"name": "verdict", "strict": True, "schema": request.schema},
                    },
                    **{name: value for name, value in optional.items() if value is not None},
                )
        except (TimeoutError, openai.APITimeoutError):
            raise BackendError(f"no answer within {self._timeout_s:g} s", transient=True) from None
        except openai.APIStatusError as error:
            raise self._status_error(error) from None
        except Exception as error:  # the client fails at a hostile answer in any way: ValueError, RecursionError, ...
            cause = error.__cause__ or error
            raise BackendError(self._safe(f"{type(cause).__name__}: {cause}"), transient=True) from None
        try:
            reply = _reply(completion, request)
        except Exception:  # the client checks no types of what it was sent, so anything may be anywhere
            raise BackendError("an answer that is no chat completion", transient=True) from None
        return replace(reply, text=self._without_key(reply.text), problem=self._safe(reply.problem))

    async def close(self) -> None:
        await self._client.close()

    def _status_error(self, error: openai.APIStatusError) -> BackendError:
        status = error.status_code
        return BackendError(
            self._safe(f"HTTP {status}: {error.message.removeprefix(f'Error code: {status} - ')}"),
            transient=status in (408, 429) or status >= 500,
            retry_after_s=_seconds(error.response.headers.get("retry-after", "")),
        )

    def _safe(self, text: str) -> str:
        """Some servers repeat the key in their complaints."""
        return one_line(self._without_key(text), 200)


def _key(config: ScorerConfig) -> str:
    if config.api_key_env is None:
        return ""
    key = os.environ.get(config.api_key_env, "").strip()
    if not key:
        raise ConfigError(
            f"scorer {config.name}: the environment variable {config.api_key_env} (api_key_env) is not set: "
            "export the key of the endpoint there"
        )
    return key


class _TooLong(Exception):
    """The body goes on beyond `MAX_REPLY_BYTES`."""


async def _bound_response(response: Any) -> None:
    """Have the client read no more than `MAX_REPLY_BYTES` of a body, be it of an answer or of an error."""
    # A few kilobytes can unfold to gigabytes: compressed in spite of what was asked for, a body is taken as it is.
    response.headers.pop("content-encoding", None)
    stream = response.stream

    class Bounded(type(stream)):  # its class, since the client checks that, and its library is not the same everywhere
        def __init__(self) -> None:
            pass

        async def __aiter__(self) -> AsyncIterator[bytes]:
            left = MAX_REPLY_BYTES
            async for piece in stream:
                left -= len(piece)
                if left < 0:
                    raise _TooLong(f"an answer of more than {MAX_REPLY_BYTES} bytes")
                yield piece

        async def aclose(self) -> None:
            await stream.aclose()

    response.stream = Bounded()


def _reply(completion: ChatCompletion, request: Request) -> Reply:
    choice = completion.choices[0]
    text = choice.message.content or ""
    usage = completion.usage
    if not isinstance(text, str):
        raise TypeError
    tokens = _count(usage.prompt_tokens) + _count(usage.completion_tokens) if usage else _estimate(request, text)
    return Reply(text=text, tokens=tokens, problem=_problem(choice.finish_reason, choice.message.refusal))


def _count(tokens: object) -> int:
    if not isinstance(tokens, int | float) or not 0 <= tokens <= MAX_TOKENS:
        raise TypeError
    return int(tokens)


def _problem(finish_reason: str | None, refusal: str | None) -> str:
    if refusal:
        return f"refused: {refusal}"
    return {"length": "cut at max_reply_tokens", "content_filter": "stopped by a content filter"}.get(finish_reason, "")


def _estimate(request: Request, reply: str) -> int:
    """Pictures are not in it: only their model knows what they cost."""
    chars = len(reply)
    for message in request.messages:
        content = message["content"]
        chars += len(content) if isinstance(content, str) else sum(len(piece.get("text", "")) for piece in content)
    return -(-chars // CHARS_PER_TOKEN)


def _seconds(retry_after: str) -> float:
    """`Retry-After` in seconds; its other form, a date, is left to the backoff."""
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        return 0.0
