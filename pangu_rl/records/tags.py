"""What an answer writes beside its words: tags of places and of reasoning, content of a turn."""

from __future__ import annotations

GROUNDING_TAGS = tuple(
    f"<|{shape}_{end}|>" for shape in ("object_ref", "box", "point", "quad") for end in ("start", "end")
)
"""What an answer writes around the name and the place of an object. Content of a turn, even where a tokenizer lists
them as special tokens: they neither end a turn nor ask for a picture, and graders read them."""


THINK_OPEN = "<think>"
THINKING = {
    THINK_OPEN: "</think>",
    "[unused16]": "[unused17]",  # openPangu
    "◁think▷": "◁/think▷",  # Kimi-VL
    "[THINK]": "[/THINK]",  # Magistral
    "<thinking>": "</thinking>",
    "<thought>": "</thought>",
}
"""What an answer writes around its reasoning, by the family of models: what opens the block -> what closes it."""


CONTENT_TAGS = (*GROUNDING_TAGS, *THINKING, *THINKING.values())
"""All tags that are content of a turn."""
