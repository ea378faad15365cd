"""From what a command line asks to the stages that records go through, in their order."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from paligax.data.ingest.reader import Reader
from paligax.data.ingest.stage import Stage

MOST_RADIUS = 20  # bits of 64; beyond, everything is near something


@dataclasses.dataclass(frozen=True)
class Choice:
    """Languages, OCR, similarity, near-duplicates, the best part: those that are asked for, by their options' names.

    Making one raises ValueError where what is asked makes no sense, before anything is read.
    """

    identify_languages: bool = False
    read_text: bool = False
    score_with: str | None = None
    near_duplicates_of: str | None = None
    radius: int | None = None
    keep_top: float | None = None
    per_language: bool = False

    def __post_init__(self) -> None:
        for name in ("score_with", "near_duplicates_of"):
            if getattr(self, name) == "":
                raise ValueError(f"--{name}= is empty; expected a path.")
        if self.radius is not None:
            if not self.near_duplicates_of:
                raise ValueError("--radius says how near the images of --near_duplicates_of are; it is not given.")
            if not 0 <= self.radius <= MOST_RADIUS:
                raise ValueError(f"--radius={self.radius}: expected 0 to {MOST_RADIUS} of 64 bits.")
        if self.keep_top is None:
            if self.per_language:
                raise ValueError("--per_language says of what --keep_top is a share; it is not given.")
            return
        if math.isnan(self.keep_top) or not 0 < self.keep_top <= 1:
            raise ValueError(
                f"--keep_top={self.keep_top}: expected a share above 0 and up to 1, like 0.1 for the best tenth."
            )
        if self.identify_languages or self.read_text or self.score_with or self.near_duplicates_of:
            raise ValueError(
                "--keep_top must know all scores, languages and removals before it can choose. Build with the other "
                "steps first, then once more from there: --source=records --path=THAT_DIRECTORY --keep_top=…"
            )

    def stages(self, reader: Reader, directory: str, beam_arguments: Sequence[str] = ()) -> list[Stage]:
        """The stages. The best part is found here, by a pipeline that reads the source once.

        Args:
          reader: the source.
          directory: where thresholds of the best part may be put for a while.
          beam_arguments: of that pipeline.

        Raises:
          ValueError: the best part is asked of a source that has no scores.
        """
        chosen: list[Stage] = []
        if self.identify_languages:
            from paligax.data.ingest.languages import IdentifyLanguages

            chosen.append(IdentifyLanguages())
        if self.read_text:
            from paligax.data.ingest.ocr import ReadText

            chosen.append(ReadText())
        if self.score_with:
            from paligax.data.ingest.similarity import ScorePairs

            chosen.append(ScorePairs(self.score_with))
        if self.near_duplicates_of:
            from paligax.data.ingest.duplicates import RemoveNearDuplicates

            given: dict[str, Any] = {} if self.radius is None else {"radius": self.radius}
            chosen.append(RemoveNearDuplicates(self.near_duplicates_of, **given))
        if self.keep_top is not None:
            from paligax.data.ingest import keep, pipeline

            key = "language" if self.per_language else ""
            thresholds = pipeline.top_fraction(reader, self.keep_top, key, directory, beam_arguments)
            chosen.append(keep.KeepAbove(thresholds, key))
        return chosen
