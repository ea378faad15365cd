import pytest

from paligax.data.ingest.readers.image_folders import ImageFolders
from tests.data.ingest.readers.annotated import put_images
from tests.data.ingest.readers.reading import read, reasons


def test_the_folder_is_the_class(tmp_path):
    names = ["n01440764/n01440764_10026.JPEG", "n01440764/n01440764_2.JPEG", "n01443537/x.png"]
    images = put_images(tmp_path, *names)
    (tmp_path / "n01443537/notes.txt").write_text("x")
    (tmp_path / "n01443537/empty.jpg").write_text("")
    records, problems = read(ImageFolders(str(tmp_path)))
    assert [(r["id"], r["labels"]) for r in records] == [(name, [name.split("/")[0]]) for name in names]
    assert [r["image"] for r in records] == images
    assert sorted(reasons(problems)) == ["image empty", "not an image file"]


def test_classes_of_a_table(tmp_path):
    put_images(tmp_path / "val", "ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000002.JPEG")
    table = tmp_path / "LOC_val_solution.csv"
    table.write_text(
        "ImageId,PredictionString\n"
        "ILSVRC2012_val_00000001,n01751748 111 108 230 366 n01751748 1 2 3 4 \n"
        "ILSVRC2012_val_00000002,n09193705 0 0 499 374 \n"
        "ILSVRC2012_val_00000002,n09193705 0 0 499 374 \n"
        "ILSVRC2012_val_00000003,n09193705 0 0 499 374 \n"
        "ILSVRC2012_val_00000004,\n"
    )
    records, problems = read(ImageFolders(str(tmp_path / "val"), solution=str(table), unit_size=1))
    assert [(r["id"], r["labels"]) for r in records] == [
        ("ILSVRC2012_val_00000001.JPEG", ["n01751748"]),
        ("ILSVRC2012_val_00000002.JPEG", ["n09193705"]),
    ]
    assert sorted(reasons(problems)) == ["image listed twice", "image missing", "row without image or class"]


def test_says_what_it_expected(tmp_path):
    put_images(tmp_path, "a.jpg")
    with pytest.raises(ValueError, match="holds no folders.*LOC_val_solution"):
        list(ImageFolders(str(tmp_path)).units())
    with pytest.raises(FileNotFoundError, match="a folder for each class"):
        list(ImageFolders(str(tmp_path / "x")).units())
