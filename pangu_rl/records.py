"""Plain data that crosses stages: prompts -> requests -> completions -> scores -> groups -> packs -> metrics.

Stages talk by these records and never import each other. Everything here is plain Python and numpy, so a record
travels through Ray, Parquet and tests alike. Lengths in brackets: T tokens, N completions, S segments, M targets.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any, Protocol

import numpy as np

GROUNDING_TAGS = tuple(
    f"<|{shape}_{end}|>" for shape in ("object_ref", "box", "point", "quad") for end in ("start", "end")
)
"""What an answer writes around the name and the place of an object. Content of a turn, even where a tokenizer lists
them as special tokens: they neither end a turn nor ask for a picture, and graders read them."""

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
"""What an answer writes around its reasoning."""

CONTENT_TAGS = (*GROUNDING_TAGS, THINK_OPEN, THINK_CLOSE)
"""All tags that are content of a turn."""


class Outcome(StrEnum):
    """What a grader found. Only the first four are rewards; the others are "no verdict" and mask the row."""

    CORRECT = "correct"
    INCORRECT = "incorrect"
    NO_BOX = "no_box"
    UNPARSABLE = "unparsable"
    TIMEOUT = "timeout"
    KILLED = "killed"
    ERROR = "error"

    @property
    def is_verdict(self) -> bool:
        return self not in (Outcome.TIMEOUT, Outcome.KILLED, Outcome.ERROR)


class FinishReason(StrEnum):
    """Why a completion ended."""

    STOP = "stop"
    """The model wrote an end-of-sequence token, which is part of `token_ids` and is trained."""
    LENGTH = "length"
    """The token limit cut it; the declared overlong policy decides what becomes of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """One row of the prompt set, as the stream hands it out."""

    uid: str
    """Unique in its file; the row's `id`, or `<file stem>:<row number>`."""
    messages: tuple[dict[str, Any], ...]
    """Chat messages in the OpenAI form, without the answer."""
    answer: str
    """The gold answer. The audit at load has seen it grade itself correct."""
    answer_type: str = "auto"
    images: tuple[str, ...] = ()
    """Paths of pictures, relative to the media root, in the order of their placeholders."""
    videos: tuple[str, ...] = ()
    """Likewise of videos. A row that shows some has its contents as parts, which say what stands where."""
    time_precise: bool = False
    """The answer is a time of a video, which is then looked at once a second."""
    source: str = ""
    """Where the row comes from (task name); metrics are split by it."""
    extra: dict[str, Any] = field(default_factory=dict)
    """Every other column of the row, untouched, for reward plugins."""
    tools: tuple[dict[str, Any], ...] = ()
    """JSON schemas of the functions that the template shows to the assistant."""
    opened: str = ""
    """What the chat template itself writes of the answer: `<think>` where its prompts open the block of reasoning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """Which moments of a video its frames show."""

    sha256: str
    """Of the file's bytes, hex."""
    seconds: tuple[float, ...]
    """[t] of each frame, from the video's first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One picture, or the frames of a video, decoded and cut once; requests and packs carry it by reference."""

    path: str
    """Relative to the media root, as the row names it."""
    sha256: str
    """Of the file's bytes, hex: the picture's identity in caches and in the store; of a video, of which frames are
    shown too."""
    grid: tuple[int, int, int]
    """(t, h, w) in patches, 14 x 14 pixels in our models; t is 1 for a still picture."""
    patches: Any
    """uint8 [t * h * w, 588] raw values in the order of the model's family (`pretrain.processing.patches`), or a handle
    to that array which the actors resolve."""
    merge: int = 2
    """Patches of a token along each side."""
    clip: Clip | None = None
    """Of a video alone."""

    @property
    def tokens(self) -> int:
        """Tokens of the language model: one per 2 x 2 patches."""
        t, h, w = self.grid
        return t * h * w // self.merge**2


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """How completions are drawn. Log-probs are those of the distribution after temperature (and top-p, top-k)."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """0 means no limit."""
    max_new_tokens: int = 1024
    stop: tuple[str, ...] = ()
    """Strings that end an answer; its text ends before them, its tokens hold what was drawn."""
    allowed_token_ids: tuple[int, ...] = ()
    """Nothing else is drawn; empty for all tokens. Greedy sampling only."""
    ignore_eos: bool = False
    """For benchmarks of exact length only."""

    def __post_init__(self) -> None:
        assert self.temperature == 0 or not self.allowed_token_ids, "log-probs would be of another distribution"


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """What an interrupted answer has so far; the engine that goes on from it computes the keys of these tokens anew."""

    token_ids: tuple[int, ...] = ()
    """[T]"""
    logprobs: tuple[float, ...] = ()
    """[T], each under the weights that drew the token."""
    weight_versions: tuple[int, ...] = ()
    """[T]"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """A sign of life of an engine in mid-answer, at most once a second and only when tokens were made."""

    tokens: dict[str, int]
    """Uid -> tokens so far, of the answers that have begun and are not finished."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutRequest:
    """One completion to draw. A group of N completions is N requests of one `group`."""

    uid: str
    """`<group>/<index>`; the completion carries the same uid, also when another actor draws it after a crash."""
    group: str
    """`<epoch>:<prompt uid>`: identity of the GRPO group, never the prompt's text."""
    prompt_uid: str
    prompt_token_ids: tuple[int, ...]
    """[T], every picture's placeholder repeated once per token of it."""
    sampling: SamplingParams
    seed: int
    """Sampling seed of this request alone, a function of the run's seed, the step and `uid`."""
    pictures: tuple[Picture, ...] = ()
    """In the order of their placeholders; all requests of a group hold the same objects."""
    begun: Begun | None = None
    """Tokens that the answer goes on from; they count towards `max_new_tokens` and stand in the completion."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scorable:
    """A token sequence whose log-probs an engine is asked for, with its pictures."""

    token_ids: tuple[int, ...]
    """[T], placeholders expanded."""
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Completion:
    """One finished completion."""

    uid: str
    group: str
    prompt_uid: str
    token_ids: tuple[int, ...]
    """[T] sampled ids, with the end-of-sequence id if the model wrote it. Training uses these, never a re-encoding."""
    logprobs: tuple[float, ...]
    """[T] sampler log-probs of `token_ids`, after temperature, each under the weights that drew the token."""
    text: str
    finish_reason: FinishReason
    weight_versions: tuple[int, ...]
    """[T] version of the weights that drew each token; one version in synchronous mode, never falling otherwise."""
    seconds: float = 0.0

    @property
    def weight_version(self) -> int:
        """The oldest version that drew a token; -1, which no weights have, without tokens."""
        return min(self.weight_versions, default=-1)

    @cached_property
    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """int32 [T] and float32 [T] of `token_ids` and `logprobs`: what is stored and packed, made once.

        Raises:
            ValueError: they are not as many.
        """
        if len(self.logprobs) != len(self.token_ids):
            raise ValueError(
                f"completion {self.uid} has {len(self.token_ids)} tokens and {len(self.logprobs)} log-probs"
            )
        return np.array(self.token_ids, dtype=np.int32), np.array(self.logprobs, dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """What one LLM scorer said of one completion by one criterion."""

    scorer: str
    criterion: str
    score: int
    """From 1 to 5."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Extraction:
    """What a judge read as the final answer of a completion."""

    judge: str
    answer: str | None
    """None: it found none."""
    agrees: bool | None = None
    """Whether that comes to the same verdict as what rules read; None where they could read nothing, and the judge's
    answer is what was scored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one reward function said of one completion."""

    value: float | None
    """None when there is no verdict."""
    outcome: Outcome
    detail: str = ""
    """One line for people: what was compared, or why there is no verdict."""
    votes: tuple[Vote, ...] = ()
    """Of LLM scorers, also those of a part that ended without a verdict."""
    extraction: Extraction | None = None
    """Of an evaluation with a judge, where that one was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A completion's reward: the weighted sum of its parts, and every part kept."""

    completion_uid: str
    reward: float | None
    """None when any part gave no verdict: the row is masked from the statistics and the loss, never 0."""
    parts: dict[str, Part]

    @property
    def outcome(self) -> Outcome:
        """The worst news first: a part without a verdict decides, else the first listed part (the accuracy)."""
        for part in self.parts.values():
            if not part.outcome.is_verdict:
                return part.outcome
        return next(iter(self.parts.values())).outcome


@dataclass(slots=True, kw_only=True)
class Group:
    """All completions of one prompt, scored, with their advantages: the unit of GRPO."""

    prompt: Prompt
    group: str
    prompt_token_ids: tuple[int, ...]
    """[T], placeholders expanded."""
    completions: list[Completion]
    scores: list[Score]
    advantages: list[float] = field(default_factory=list)
    """[N] one per completion; exactly 0 for rows without a verdict and for groups without variance."""
    trained: bool = True
    """False for a group that dynamic sampling set aside, having nothing to compare; it is stored all the same."""
    pictures: tuple[Picture, ...] = ()
    """Of the prompt, in the order of their placeholders."""
    prompt_positions: np.ndarray | None = None
    """int64 [3, T] positions of a multimodal prompt (time, height, width); None counts 0, 1, 2, ..."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """Sequences laid end to end, with a tree of attention: the one batch format of every stage.

    A segment attends to itself causally and, if it has a parent, to all of its parent (and the parent's parent).
    A GRPO group is one prompt segment and N completion segments whose parent it is, so the prompt stands once.
    Segments come after their parents; a plain sequence is one segment without a parent.

    Example: prompt [5 6 7], completions [8 9] and [4]:
        token_ids       5 6 7 8 9 4
        position_ids    0 1 2 3 4 3
        segment_starts  0 3 5 6          (S + 1 entries)
        segment_parents -1 0 0
        targets         3 4 5            (8, 9 and 4 are trained)
        predictors      2 3 2            (the prompt's last hidden state predicts both first tokens)
        sequence_ids    0 0 1
    """

    token_ids: np.ndarray
    """int64 [T]"""
    position_ids: np.ndarray
    """int64 [T], or [3, T] (time, height, width) for a multimodal model; restarts with every root segment and goes on
    in a child from the parent's end, which is one more than the parent's largest position."""
    segment_starts: np.ndarray
    """int64 [S + 1]"""
    segment_parents: np.ndarray
    """int64 [S], -1 for a root."""
    targets: np.ndarray
    """int64 [M], indices into `token_ids` of the tokens in the loss."""
    predictors: np.ndarray
    """int64 [M], index of the hidden state that predicts each target."""
    sequence_ids: np.ndarray
    """int64 [M], which sequence (completion or sample) of the global batch each target belongs to."""
    columns: dict[str, np.ndarray] = field(default_factory=dict)
    """Per-target float32 [M] inputs of the objective, e.g. `advantages`, `sampler_logprobs`, `old_logprobs`; and
    `pack_ids` where several packs share a micro-batch, whose losses may be sums within each."""
    pictures: tuple[Picture, ...] = ()
    """Pictures of the pack in token order; one that several prompts share may stand here several times and is encoded
    once."""
    picture_tokens: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """int64 [K], indices of the placeholder tokens, which the features of `pictures` replace in order."""

    @property
    def num_tokens(self) -> int:
        return int(self.token_ids.shape[0])

    @property
    def num_targets(self) -> int:
        return len(self.targets)

    def lay_out(self) -> Pack:
        """Itself: what `Outline.lay_out` gives."""
        return self


class Outline(Protocol):
    """What a pack holds, before its arrays are made.

    A token of a rollout is its id and its log-prob, 8 bytes, and 48 in a `Pack`, whose positions, targets and
    advantages are counts and repetitions. So packs travel as outlines, and a rank lays one out when its turn comes.
    """

    num_tokens: int
    num_targets: int
    segment_starts: np.ndarray
    segment_parents: np.ndarray
    sequence_ids: np.ndarray
    pictures: tuple[Picture, ...]
    columns: dict[str, np.ndarray]
    """Those that its tokens do not bring along."""

    def lay_out(self) -> Pack:
        """The pack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MiniBatch:
    """One optimiser step's data for one rank."""

    packs: tuple[Pack | Outline, ...]
    """Micro-batches; every rank gets the same number (ZeRO 2 and 3 reduce at each), an empty one has no targets. Or a
    handle to them, which the actors resolve."""
    loss_tokens: int
    """Targets in the *global* mini-batch: the denominator of the token mean, the same on every rank."""
    loss_sequences: int
    """Sequences in the *global* mini-batch: the denominator of the sequence means."""
    loss_roots: float = 0.0
    """Sum over the sequences of the *global* mini-batch of the root of their targets: the denominator of the square
    average, and only set for it."""
    loss_pairs: int = 0
    """Preference pairs in the *global* mini-batch. Its sequences 2p and 2p + 1 are the chosen and the rejected response
    of pair p; those from 2 * `loss_pairs` on are SFT rows."""
    row_tokens: int = 0
    """Targets of the SFT rows beside the pairs, in the *global* mini-batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightTensor:
    """Where one published tensor lies and what it must hash to."""

    name: str
    """Hugging Face checkpoint name."""
    shape: tuple[int, ...]
    dtype: str
    offset: int
    """Byte offset in the buffer of its bucket."""
    digest: str
    """xxh3-128 of the tensor's bytes, hex."""
    bucket: int = 0
    """Which buffer it lies in; a shared one is the only one, a broadcast sends them in order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightManifest:
    """What the learner published: the engine must consume exactly these names with exactly these bytes."""

    version: int
    tensors: tuple[WeightTensor, ...]
    transport: str
    """`shm` (a buffer file on this node) or `broadcast` (a collective over the rollout group)."""
    location: str
    """Buffer path, or `host:port` of the collective's store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Greedy accuracy on held-out prompts under one set of weights."""

    name: str
    step: int
    correct: dict[str, bool]
    """Prompt uid -> correct; paired comparisons need the items, not the mean."""
    sources: dict[str, str] = field(default_factory=dict)
    """Prompt uid -> source."""

    @property
    def accuracy(self) -> float:
        return sum(self.correct.values()) / len(self.correct)
