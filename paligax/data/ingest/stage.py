"""One step over records on their way into a data set: notes something in them, or removes some."""

import abc

from paligax.data.ingest.reader import Record


class Stage(abc.ABC):
    """Subclasses are dataclasses that pickle small: models and tables are loaded in ``setup``.

    Attributes:
      batch_size: how many records ``apply`` would like at once.
    """

    batch_size: int = 64

    def setup(self) -> None:  # noqa: B027  (most need none)
        """Loads what ``apply`` needs; once in each process, before the first record."""

    @abc.abstractmethod
    def apply(self, records: list[Record]) -> list[str]:
        """Changes the records in place.

        Args:
          records: flat, as ``paligax.data.records.flatten`` gives them, checked; 1 to ``batch_size`` of them.

        Returns:
          For each "" if it stays, else why it is removed: a few words without numbers or names.
        """
