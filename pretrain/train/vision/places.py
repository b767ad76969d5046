"""An entry of the file of regions -> **where its objects and lines of text lie** -> batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pretrain.contrastive.regions import Region

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Place:
    """A region before it is laid over a picture: of a line its text, of an object its clusters."""

    box: Box
    text: str | None
    labels: tuple[int, ...] | None = None
    confidence: float = 1.0

    def region(self, picture: int, size: tuple[int, int], tokenizer: PreTrainedTokenizerBase) -> Region:
        """In picture number `picture` of a batch, which is shown at `size` (width, height) pixels."""
        box = tuple(share * side for share, side in zip(self.box, (*size, *size), strict=True))
        classes = self.labels
        if self.text is not None:
            classes = tuple(dict.fromkeys(tokenizer(self.text, add_special_tokens=False)["input_ids"]))
        # It says how well a line was read; objects are not left out by it.
        confidence = 1.0 if self.text is None else self.confidence
        return Region(picture=picture, box=box, classes=classes or (), confidence=confidence)


def places_of(entry: dict[str, Any]) -> tuple[Place, ...]:
    """Of one picture in the file of regions."""
    return tuple(
        Place(tuple(region["box"]), region["text"], region["labels"] and tuple(region["labels"]), region["confidence"])
        for region in entry["regions"]
    )
