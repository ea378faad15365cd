"""Parquet files with images in a column, as Hugging Face data sets, LAION-like tables and img2dataset write them."""

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from paligax.data.ingest import files
from paligax.data.ingest.reader import PART, UNKNOWN, Problem, Reader, Record, option
from paligax.data.ingest.readers import fields, streams

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

BATCH = 16  # rows decoded at once: with images of megabytes, tens of megabytes
_UNREADABLE = object()  # a cell that Arrow holds and Python cannot


@dataclasses.dataclass(frozen=True)
class Parquet(Reader):
    """One record a row with an image (or, with ``image=``, one a row).

    Columns are named, those within others with dots: "image.bytes", "meta.caption".

    Attributes:
      path: file, pattern or folder of .parquet files.
      image: column with an image file's bytes, or with a struct of ``bytes`` and ``path``, as Hugging Face data sets
        have; a list with one of these too; or with file names in ``images``. "": no images.
      text: column with the caption: text, a list of texts, or a struct (or a list) with ``text`` and maybe ``lang``.
        "": no captions.
      id, language, score: further columns. Without ``id``, file and row number.
      fields: more columns, "question=qa/question,answers=qa/answer": theirs and the record's.
      images: folder of the images where the column holds their names.
      lang: language of texts where no column says it.
      unit_size: rows a unit, about: a unit is one or more whole row groups.
      source: what the records' ``source`` says.
    """

    path: str
    image: str = "image"
    text: str = "text"
    id: str = ""
    language: str = ""
    score: str = ""
    fields: str = option("", check=fields.parse)
    images: str = ""
    lang: str = ""
    unit_size: int = 1000
    source: str = "parquet"

    def units(self) -> Iterator[list]:
        """[file, first row group, one behind the last, number of the first row]; of a file that is none, [file]."""
        self._pairs("alt_text/text")
        plan: list[list] = []
        found = files.matching(self.path, (".parquet",))
        for file in found:
            groups = self._groups(file)
            plan += [[file]] if groups is None else [[file, *group] for group in groups]
        if all(len(unit) == 1 for unit in plan) and plan:
            raise ValueError(f"{self.path!r}: none of {len(found)} files is a Parquet file.")
        yield from plan

    def read(self, unit: list) -> Iterator[Record | Problem]:
        if len(unit) == 1:
            yield Problem("damaged or cut file", unit[0], UNKNOWN)
            return
        import pyarrow as pa

        file, first, end, row = unit
        with streams.open_stream(file) as stream:
            try:
                parquet = _opened(stream)
                pairs = self._pairs(self._text_field(parquet.schema_arrow, file))
                columns = list(dict.fromkeys(_top(parquet.schema_arrow, theirs) for theirs, _ in pairs))
            except (pa.ArrowException, OSError) as error:
                yield Problem("damaged or cut file", f"{file}: {error}", UNKNOWN)
                return
            for group in range(first, end):
                behind = row + parquet.metadata.row_group(group).num_rows
                try:
                    for batch in parquet.iter_batches(BATCH, row_groups=[group], columns=columns):
                        for values in _rows(batch):
                            yield from self._record(values, pairs, f"{file} row {row}", row, file)
                            row += 1
                except (pa.ArrowException, OSError) as error:
                    yield Problem("damaged or cut file", f"{file} rows {row} to {behind}: {error}", number=behind - row)
                row = behind

    def _record(
        self, values: dict[str, Any], pairs: list[tuple[str, str]], where: str, row: int, file: str
    ) -> Iterator[Record | Problem]:
        given: list[tuple[str, Any]] = []
        for theirs, ours in pairs:
            try:
                value = fields.find(values, theirs)
            except KeyError:  # beneath a struct that is null
                value = None
            if value is _UNREADABLE:
                yield Problem("unreadable value", f"{where}: {theirs}", PART)
                value = None
            if ours == "image":
                value = self._image(value, where)
                if isinstance(value, Problem):
                    yield value
                    return
            given.append((ours, value))
        record, reasons = fields.record(given, self.lang)
        yield from (Problem(reason, where, PART) for reason in reasons)
        record.setdefault("id", f"{file.replace(chr(92), '/').rpartition('/')[2]}:{row}")
        yield {**record, "source": self.source}

    def _image(self, value: Any, where: str) -> bytes | Problem:
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, list):
            return Problem("several images" if value else "image missing", where)
        if isinstance(value, str) and value and self.images:
            return files.image_of(self.images, value)
        if not isinstance(value, bytes):
            return Problem("image missing", where)
        if len(value) > files.MAX_IMAGE_BYTES:
            return Problem("image file too large", where)
        return value or Problem("image empty", where)

    # ------------------------------------------------------------------------------------------ columns and row groups

    def _pairs(self, text_field: str) -> list[tuple[str, str]]:
        """(column, field of the record)."""
        named = [
            (self.id, "id"),
            (self.image, "image"),
            (self.text, text_field),
            (self.language, "alt_text/lang"),
            (self.score, "score"),
        ]
        pairs = [(theirs, ours) for theirs, ours in named if theirs] + list(fields.parse(self.fields))
        if not pairs:
            raise ValueError("No column is named: give at least image or text, or fields.")
        return pairs

    def _groups(self, file: str) -> list[list[int]] | None:
        """[first row group, one behind the last, first row], of about ``unit_size`` rows each; None: no Parquet file.

        Raises ValueError where a column is missing or of another type.
        """
        import pyarrow as pa

        with streams.open_stream(file) as stream:
            try:
                parquet = _opened(stream)
                sizes = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
                schema = parquet.schema_arrow
            except (pa.ArrowException, OSError):
                return None
        self._check(schema, file)
        groups: list[list[int]] = []
        row = total = 0
        for i, size in enumerate(sizes):
            if not groups or total + size > self.unit_size:
                groups.append([i, i, row])
                total = 0
            groups[-1][1], row, total = i + 1, row + size, total + size
        return groups

    def _check(self, schema: "pa.Schema", file: str) -> None:
        import pyarrow as pa

        for theirs, ours in self._pairs(self._text_field(schema, file)):
            kind = _within_list(_type_of(schema, theirs, file))
            if ours != "image":
                continue
            inner = [kind.field(i) for i in range(kind.num_fields)] if pa.types.is_struct(kind) else []
            kinds = [field.type for field in inner if field.name in ("bytes", "path")] or [kind]
            if not any(pa.types.is_binary(k) or pa.types.is_large_binary(k) for k in kinds):
                if not self.images or not any(pa.types.is_string(k) or pa.types.is_large_string(k) for k in kinds):
                    raise ValueError(
                        f"{file!r}: column {theirs!r} is {kind}; expected bytes of images, or names of files in the "
                        "folder that ``images`` names."
                    )

    def _text_field(self, schema: "pa.Schema", file: str) -> str:
        """The field of ours that the text column fills: "alt_text/text", or the whole group where it is a struct."""
        import pyarrow as pa

        kind = _within_list(_type_of(schema, self.text, file)) if self.text else pa.string()
        if not pa.types.is_struct(kind):
            return "alt_text/text"
        names = [kind.field(i).name for i in range(kind.num_fields)]
        if "text" not in names:
            raise ValueError(
                f"{file!r}: column {self.text!r} holds {', '.join(names)}; name the caption, as in "
                f"text={self.text}.{names[0] if names else 'text'}."
            )
        return "alt_text"


def _opened(stream: Any) -> "pq.ParquetFile":
    import pyarrow.parquet as pq

    # Unbuffered, a column of a row group would be read at once: with images that can be gigabytes.
    return pq.ParquetFile(stream, buffer_size=streams.BUFFER, pre_buffer=False)


def _rows(batch: "pa.RecordBatch") -> Iterator[dict[str, Any]]:
    columns = {}
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        try:
            columns[name] = column.to_pylist()
        except (ValueError, OverflowError):  # one of its texts is no UTF-8, or a date is beyond Python's
            columns[name] = [_cell(value) for value in column]
    for i in range(batch.num_rows):
        yield {name: column[i] for name, column in columns.items()}


def _cell(value: "pa.Scalar") -> Any:
    try:
        return value.as_py()
    except (ValueError, OverflowError):
        return _UNREADABLE


def _top(schema: "pa.Schema", name: str) -> str:
    """The column that a dotted name lies in."""
    dots = [i for i, character in enumerate(name) if character in "./"]
    return next(name[:i] for i in [len(name), *dots] if name[:i] in schema.names)


def _type_of(schema: "pa.Schema", name: str, file: str) -> "pa.DataType":
    """Raises ValueError with the nearest known name."""
    found = dict(_names(schema))
    if name.replace("/", ".") not in found:
        raise ValueError(f"{file!r} has no column {name!r}{fields.nearest(name, found)}")
    return found[name.replace("/", ".")]


def _names(fields_of: Any, prefix: str = "") -> Iterator[tuple[str, "pa.DataType"]]:
    """Dotted names and types, of columns and of what lies in structs (those in lists too)."""
    import pyarrow as pa

    for i in range(len(fields_of) if not prefix else fields_of.num_fields):
        field = fields_of.field(i)
        yield prefix + field.name.replace("/", "."), field.type
        kind = _within_list(field.type)
        if pa.types.is_struct(kind):
            yield from _names(kind, f"{prefix}{field.name}.")


def _within_list(kind: "pa.DataType") -> "pa.DataType":
    import pyarrow as pa

    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    return kind
