"""What `paligax eval` scores: a run, one of its checkpoints, an export, or foreign weights; and whether data fit it."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, Self

from paligax import models
from paligax import vocabulary as vocabulary_lib
from paligax.inference import export, loading
from paligax.interop import native
from paligax.interop.foreign import KINDS, is_foreign, open_foreign

# Read before the gin files where the model has no configuration of its own.
WITHOUT_CONFIGURATION = "runs/eval_data.gin"
EVALUATED = "Evaluator.data = @Data()\n"  # before a run's configuration, which may say otherwise
REPORTS = "eval"


@dataclasses.dataclass(frozen=True)
class Subject:
    """A model to be evaluated, described and not yet read.

    Attributes:
      place: where its weights lie, for people.
      module: of paligax.models.
      vocabulary: its own; None where it has none (foreign weights, classifiers).
      feature_lengths: as trained; empty where they are not known.
      config: the resolved gin text of its run; of an export without one its lengths; "" of foreign weights.
      gin_files: to be read behind ``config`` and before the user's.
      reports: directory for what is found, where the user names none.
      read: gives the parameters, nested dict of numpy arrays.
    """

    place: str
    module: Any
    vocabulary: Any
    feature_lengths: Mapping[str, int]
    config: str
    gin_files: tuple[str, ...]
    reports: pathlib.Path
    read: Callable[[], dict[str, Any]]

    @classmethod
    def open(cls, path: str | os.PathLike) -> Self:
        """Opens what is there, without reading the parameters.

        Raises:
          FileNotFoundError: where there is nothing.
          ValueError, CheckpointError: where it is damaged, or nothing that paligax knows.
        """
        if is_foreign(path):
            return cls._of_foreign(path)
        place = pathlib.Path(path).expanduser()
        if not place.exists():
            raise FileNotFoundError(
                f"No directory or file {str(path)!r}. `paligax eval` takes a run, one of its checkpoints, an export, "
                f"or {KINDS}."
            )
        return cls._of_export(place) if (place / export.DESCRIPTION).is_file() else cls._of_run(place)

    @classmethod
    def _of_run(cls, path: pathlib.Path) -> Self:
        from paligax.training import checkpoints

        directory, described = checkpoints.describe(path)
        lengths = {name: int(length) for name, length in described.feature_lengths.items()}
        return cls(
            place=str(directory),
            module=models.build(described.architecture),
            vocabulary=vocabulary_lib.from_dict(described.vocabulary) if described.vocabulary else None,
            feature_lengths=lengths,
            config=f"{EVALUATED}{described.config}",
            gin_files=(),
            reports=directory.parent.parent / REPORTS / directory.name,
            read=lambda: checkpoints.restore_params(directory)[0],
        )

    @classmethod
    def _of_export(cls, path: pathlib.Path) -> Self:
        described = loading.read_description(path)
        lengths = described["feature_lengths"]
        trained = path / export.CONFIG
        own = trained.read_text(encoding="utf-8") if trained.is_file() else ""
        stated = f"TASK_FEATURE_LENGTHS = {dict(lengths)!r}\nVOCABULARY = None\n"
        return cls(
            place=str(path),
            module=models.build(json.loads((path / export.ARCHITECTURE).read_text(encoding="utf-8"))),
            vocabulary=loading.described_vocabulary(described, path),
            feature_lengths=lengths,
            config=f"{EVALUATED}{own}" if own else stated,
            gin_files=() if own else (WITHOUT_CONFIGURATION,),
            reports=pathlib.Path(REPORTS),
            read=lambda: native.load(path / export.WEIGHTS),
        )

    @classmethod
    def _of_foreign(cls, path: str | os.PathLike) -> Self:
        foreign = open_foreign(path)
        if not {"inputs", "labels"} & {*models.lengths_of(foreign.module)} and not isinstance(
            foreign.module, models.MT5
        ):
            raise ValueError(
                f"{foreign.place!r} is a {type(foreign.module).__name__}, which answers nothing: `paligax eval` scores "
                "a PaLI, a Classifier, or an MT5 on tasks of text alone."
            )
        return cls(
            place=foreign.place,
            module=foreign.module,
            vocabulary=None,
            feature_lengths={},
            config="",
            gin_files=(WITHOUT_CONFIGURATION,),
            reports=pathlib.Path(REPORTS),
            read=lambda: native.unflatten({name: foreign.array(name) for name in foreign.shapes}),
        )

    def fitted(self, evaluator: Any) -> Any:
        """The evaluator with the model's own vocabulary, whose file may have moved since.

        Raises:
          ValueError: where the evaluator's data have another vocabulary, other kinds of batches, or images of another
            size than the model's.
        """
        data = evaluator.data
        wanted, given = set(models.lengths_of(self.module)), set(data.feature_lengths)
        if isinstance(self.module, models.MT5):
            wanted = {"image", "inputs", "targets"}  # batches of text have an empty image
        if wanted != given:
            raise ValueError(
                f"{self.place} is a {type(self.module).__name__}, which takes {', '.join(sorted(wanted))}; the data's "
                f"feature_lengths are {dict(data.feature_lengths)}. Evaluate it on the data it was made for."
            )
        side = self.feature_lengths.get("image")
        if side and side != data.feature_lengths["image"]:
            raise ValueError(
                f"{self.place} was trained on images of {side} × {side} px; the data's feature_lengths say "
                f"{data.feature_lengths['image']}. Set TASK_FEATURE_LENGTHS to the model's, "
                f"{dict(self.feature_lengths)}."
            )
        if self.vocabulary is None:
            if data.vocabulary is None and "inputs" in given:
                raise ValueError(f"{self.place} has no vocabulary of its own: give its file in VOCABULARY.")
            if rows := models.vocabulary_rows(self.module):
                vocabulary_lib.check_rows(data.vocabulary, rows)
            return evaluator
        if data.vocabulary is not None and _digest(data.vocabulary) not in (None, self.vocabulary.digest()):
            raise ValueError(
                f"{self.place} was trained with {self.vocabulary}; the gin files name {data.vocabulary}, whose ids "
                "mean other texts. Leave VOCABULARY out: the model brings its own."
            )
        return dataclasses.replace(evaluator, data=dataclasses.replace(data, vocabulary=self.vocabulary))

    def params(self, feature_lengths: Mapping[str, int]) -> dict[str, Any]:
        """Nested dict of numpy arrays.

        Raises ValueError that lists what doesn't fit the module at these lengths.
        """
        params = self.read()
        lengths = {name: feature_lengths[name] for name in models.lengths_of(self.module)}
        native.check(params, models.abstract_params(self.module, lengths), self.place)
        return params


def _digest(vocabulary: Any) -> str | None:
    """None where its file is gone."""
    if not all(pathlib.Path(file).is_file() for file in vocabulary.files()):
        return None
    return vocabulary.digest()
