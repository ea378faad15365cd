"""From what a command line asks to the stages that records go through, in their order."""

from collections.abc import Sequence
from typing import Any

from paligax.data.ingest.reader import Reader
from paligax.data.ingest.stage import Stage


def stages(
    reader: Reader,
    beam_arguments: Sequence[str],
    directory: str,
    *,
    identify_languages: bool,
    read_text: bool,
    score_with: str | None,
    near_duplicates_of: str | None,
    radius: int | None,
    keep_top: float | None,
    per_language: bool,
) -> list[Stage]:
    """Languages, OCR, similarity, near-duplicates, the best part: those that are asked for.

    ``directory`` is where thresholds of the best part may be put for a while.

    Raises ValueError where the best part is asked of a source that would have to be scored twice, or of one that has
    no scores.
    """
    chosen: list[Stage] = []
    if identify_languages:
        from paligax.data.ingest.languages import IdentifyLanguages

        chosen.append(IdentifyLanguages())
    if read_text:
        from paligax.data.ingest.ocr import ReadText

        chosen.append(ReadText())
    if score_with:
        from paligax.data.ingest.similarity import ScorePairs

        chosen.append(ScorePairs(score_with))
    if near_duplicates_of:
        from paligax.data.ingest.duplicates import RemoveNearDuplicates

        given: dict[str, Any] = {} if radius is None else {"radius": radius}
        chosen.append(RemoveNearDuplicates(near_duplicates_of, **given))
    if keep_top is not None:
        if chosen:
            raise ValueError(
                "--keep_top must know all scores, languages and removals before it can choose. Build with the other "
                "steps first, then once more from there: --source=records --path=THAT_DIRECTORY --keep_top=…"
            )
        from paligax.data.ingest import keep, pipeline

        key = "language" if per_language else ""
        chosen.append(
            keep.KeepAbove(pipeline.top_fraction(reader, keep_top, key, directory, beam_arguments), key)
        )
    elif per_language:
        raise ValueError("--per_language says of what --keep_top is a share; it is not given.")
    return chosen
