import json
import math

import numpy as np
import pytest

from paligax.data.ingest.readers.coco import CocoCaptions, CocoInstances, Objects365
from tests.data.ingest.readers.annotated import admitted, boxes_of, put_images, put_json
from tests.data.ingest.readers.reading import read, reasons

INFO = {"description": "COCO 2014 Dataset", "url": "u", "version": "1.0", "year": 2014, "contributor": "c"}
LICENSES = [{"url": "u", "id": 1, "name": "Attribution"}]


def coco_image(number, file_name, **other):
    return {
        "license": 1,
        "file_name": file_name,
        "coco_url": "u",
        "height": 4,
        "width": 8,
        "date_captured": "2013-11-14 11:18:45",
        "flickr_url": "u",
        "id": number,
        **other,
    }


CAPTIONS = {
    "info": INFO,
    "images": [
        coco_image(57870, "COCO_train2014_000000057870.jpg"),
        coco_image(9, "COCO_train2014_000000000009.jpg"),
        coco_image(30, "COCO_train2014_000000000030.jpg"),
        coco_image(12, "../COCO_train2014_000000000012.jpg"),
        coco_image(9, "COCO_train2014_000000000009.jpg"),
        {"id": 13},
        "no object",
    ],
    "licenses": LICENSES,
    "annotations": [
        {"image_id": 9, "id": 661611, "caption": "Closeup of bins of food. "},
        {"image_id": 57870, "id": 787980, "caption": "A restaurant — très chic — 猫"},
        {"image_id": 9, "id": 661977, "caption": "A meal\nin trays."},
        {"image_id": 9, "id": 1, "caption": ""},
        {"image_id": 404, "id": 2, "caption": "of no image"},
        {"image_id": 9, "id": 3, "caption": None},
        {"id": 4, "caption": "of nothing"},
        ["no object"],
    ],
}
FILES = ["COCO_train2014_000000057870.jpg", "COCO_train2014_000000000009.jpg"]


def test_coco_captions(tmp_path):
    first, second = put_images(tmp_path / "train2014", *FILES)
    path = put_json(tmp_path / "captions_train2014.json", CAPTIONS)
    records, problems = read(CocoCaptions(path=path, images=str(tmp_path / "train2014")))
    assert [r["id"] for r in records] == ["57870", "9"] and [r["image"] for r in records] == [first, second]
    assert records[0]["alt_text"] == {"lang": ["en"], "text": ["A restaurant — très chic — 猫"]}
    assert records[1]["alt_text"]["text"] == ["Closeup of bins of food. ", "A meal\nin trays.", ""]
    flat, why = admitted(records[1])
    assert why == ["empty text"] and flat == {
        "id": "9",
        "image": second,
        "source": "coco_captions",
        "alt_text/lang": ["en", "en"],
        "alt_text/text": ["Closeup of bins of food.", "A meal\nin trays."],
    }
    assert problems == [
        ("image without id or file name", f"{path}: images 5"),
        ("entry is no object", f"{path}: images"),
        ("caption without image or text", f"{path}: annotations 5"),
        ("caption without image or text", f"{path}: annotations 6"),
        ("entry is no object", f"{path}: annotations"),
        ("annotation of an unknown image", f"{path}: image 404"),
        ("image listed twice", f"{path}: images 4"),
        ("image missing", f"{tmp_path}/train2014/COCO_train2014_000000000030.jpg"),
        ("bad file name", f"{tmp_path}/train2014/../COCO_train2014_000000000012.jpg"),
    ]


def test_units_are_pieces_and_carry_their_captions(tmp_path):
    put_images(tmp_path, *FILES)
    path = put_json(tmp_path / "c.json", {**CAPTIONS, "images": CAPTIONS["images"][:3]})
    reader = CocoCaptions(path=path, images=str(tmp_path), unit_size=2, lang="de", source="mine")
    units = list(reader.units())
    assert [len(unit["images"]) for unit in units] == [2, 1]
    assert units[0]["images"][1] == ["9", FILES[1], ["Closeup of bins of food. ", "A meal\nin trays.", ""]]
    (tmp_path / "c.json").unlink()  # reading needs the unit alone
    records, _ = read(reader, units[:1])
    assert records[1]["source"] == "mine" and records[1]["alt_text"]["lang"] == ["de"] * 3


def test_annotations_before_images(tmp_path):
    put_images(tmp_path, *FILES)
    turned = {"annotations": CAPTIONS["annotations"][:3], "images": CAPTIONS["images"][:2]}
    records, problems = read(CocoCaptions(path=put_json(tmp_path / "c.json", turned), images=str(tmp_path)))
    assert problems == [] and [r["id"] for r in records] == ["57870", "9"]


def test_a_test_sets_images_have_no_captions(tmp_path):
    put_images(tmp_path, FILES[0])
    info = {"info": INFO, "images": CAPTIONS["images"][:1], "licenses": LICENSES, "categories": []}
    records, problems = read(CocoCaptions(path=put_json(tmp_path / "i.json", info), images=str(tmp_path)))
    assert problems == [] and records[0]["alt_text"] == {"lang": [], "text": []}


def test_nocaps(tmp_path):
    put_images(tmp_path, "0013ea2087020901.jpg")
    image = coco_image(0, "0013ea2087020901.jpg", domain="in-domain", open_images_id="0013ea2087020901")
    captions = [{"image_id": 0, "id": i, "caption": f"A baby {i}."} for i in range(10)]
    nocaps = {"licenses": LICENSES, "info": INFO, "images": [image], "annotations": captions}
    records, problems = read(CocoCaptions(path=put_json(tmp_path / "n.json", nocaps), images=str(tmp_path)))
    assert problems == [] and records[0]["alt_text"]["text"] == [f"A baby {i}." for i in range(10)]


@pytest.mark.parametrize("rejected", [False, True])
def test_vizwiz_captions(tmp_path, rejected):
    put_images(tmp_path, "VizWiz_train_00000000.jpg")
    image = {"file_name": "VizWiz_train_00000000.jpg", "id": 0, "text_detected": True, "vizwiz_url": "u"}
    ready = "Quality issues are too severe to recognize visual content."
    rows = [("ITS IS A BASIL LEAVES CONTAINER", 0, 0), (ready, 1, 0), ("spam", 0, 1), ("A green bottle", 0, 0)]
    annotations = [
        {
            "caption": text,
            "image_id": 0,
            "is_precanned": bool(p),
            "is_rejected": bool(r),
            "id": i,
            "text_detected": True,
        }
        for i, (text, p, r) in enumerate(rows)
    ]
    path = put_json(tmp_path / "train.json", {"info": INFO, "images": [image], "annotations": annotations})
    records, problems = read(CocoCaptions(path=path, images=str(tmp_path), rejected=rejected))
    texts = [text for text, _, _ in rows]
    assert records[0]["alt_text"]["text"] == (texts if rejected else [texts[0], texts[3]])
    assert reasons(problems) == ([] if rejected else ["caption pre-canned", "caption rejected"])


def karpathy(split, number, *captions):
    name = f"COCO_val2014_{number:012d}.jpg"
    sentences = [{"tokens": c.lower().split(), "raw": c, "imgid": 0, "sentid": i} for i, c in enumerate(captions)]
    return {
        "filepath": "val2014",
        "sentids": list(range(len(captions))),
        "filename": name,
        "imgid": 0,
        "split": split,
        "sentences": sentences,
        "cocoid": number,
    }


def test_karpathys_splits(tmp_path):
    images = [karpathy("test", 391895, "A man."), karpathy("restval", 2, "Two.", "Zwei"), karpathy("train", 3)]
    images.append({**karpathy("val", 4), "sentences": [{"tokens": []}]})
    put_images(tmp_path, *(f"val2014/{image['filename']}" for image in images))
    path = put_json(tmp_path / "dataset_coco.json", {"images": images, "dataset": "coco"})
    for folder in (tmp_path, tmp_path / "val2014"):
        records, problems = read(CocoCaptions(path=path, images=str(folder), split="train,restval"))
        assert problems == [] and [r["id"] for r in records] == ["2", "3"]
        assert records[0]["alt_text"]["text"] == ["Two.", "Zwei"]
    records, problems = read(CocoCaptions(path=path, images=str(tmp_path)))
    assert len(records) == 4 and problems == [("caption without image or text", f"{path}: images 3")]
    with pytest.raises(ValueError, match=r"split='trian'.*\['restval', 'test', 'train', 'val'\]"):
        list(CocoCaptions(path=path, images=str(tmp_path), split="trian").units())


def test_karpathys_flickr_has_neither_folder_nor_coco_id(tmp_path):
    put_images(tmp_path, "1000092795.jpg")
    image = {"sentids": [0], "imgid": 0, "sentences": [{"raw": "Two boys.", "tokens": []}], "split": "train"}
    image["filename"] = "1000092795.jpg"
    path = put_json(tmp_path / "dataset_flickr30k.json", {"images": [image], "dataset": "flickr30k"})
    records, problems = read(CocoCaptions(path=path, images=str(tmp_path), split="train"))
    assert problems == [] and records[0]["id"] == "0" and records[0]["alt_text"]["text"] == ["Two boys."]


def textcaps(number, image_id, caption, references):
    return {
        "caption_id": number,
        "image_id": image_id,
        "caption_str": caption,
        "reference_strs": references,
        "caption_tokens": [],
        "image_classes": ["Billboard"],
        "image_width": 8,
        "image_height": 4,
        "set_name": "train",
    }


def test_textcaps(tmp_path):
    put_images(tmp_path, "054c.jpg", "1e5.jpg")
    two = ["A sign that says STOP.", "Ein Schild."]
    data = [textcaps(0, "054c", two[0], two), textcaps(1, "1e5", "Mug", ["Mug"]), textcaps(2, "054c", two[1], two)]
    path = put_json(tmp_path / "t.json", {"dataset_type": "train", "dataset_name": "textcaps", "data": data})
    records, problems = read(CocoCaptions(path=path, images=str(tmp_path)))
    assert problems == [] and [(r["id"], r["alt_text"]["text"]) for r in records] == [("054c", two), ("1e5", ["Mug"])]

    for row in data:  # rows of a caption each, without the others'
        del row["reference_strs"]
    records, problems = read(CocoCaptions(path=put_json(tmp_path / "t.json", {"data": data}), images=str(tmp_path)))
    assert problems == [] and [r["alt_text"]["text"] for r in records] == [two, ["Mug"]]

    test = [{"image_id": "054c", "set_name": "test"}, {"image_id": None}]
    records, problems = read(CocoCaptions(path=put_json(tmp_path / "t.json", {"data": test}), images=str(tmp_path)))
    assert reasons(problems) == ["caption without image or text"] and records[0]["alt_text"]["text"] == []


@pytest.mark.parametrize("value", [{"info": {}, "annotations": []}, [], {"image": []}, {}])
def test_a_file_of_another_kind(tmp_path, value):
    with pytest.raises(ValueError, match="has no images: expected"):
        list(CocoCaptions(path=put_json(tmp_path / "c.json", value), images=str(tmp_path)).units())
    with pytest.raises(ValueError, match="has no boxes: expected"):
        list(CocoInstances(path=put_json(tmp_path / "c.json", value), images=str(tmp_path)).units())


@pytest.mark.parametrize("cls", [CocoCaptions, CocoInstances, Objects365])
def test_a_file_cut_short(tmp_path, cls):
    (tmp_path / "c.json").write_text(json.dumps(CAPTIONS)[:-40])
    with pytest.raises(ValueError, match="not a whole JSON file"):
        list(cls(path=str(tmp_path / "c.json"), images=str(tmp_path)).units())
    with pytest.raises(FileNotFoundError):
        list(cls(path=str(tmp_path / "none.json"), images=str(tmp_path)).units())


# ------------------------------------------------------------------------------------------------------------ boxes


def instance(image_id, category_id, bbox, iscrowd=0, **other):
    return {
        "segmentation": [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]],
        "area": 12.5,
        "iscrowd": iscrowd,
        "image_id": image_id,
        "bbox": bbox,
        "category_id": category_id,
        "id": 1,
        **other,
    }


INSTANCES = {
    "info": INFO,
    "licenses": LICENSES,
    "images": [coco_image(139, "000000000139.jpg"), coco_image(285, "000000000285.jpg", height=None, width=None)],
    "annotations": [
        instance(139, 44, [2.0, 1.0, 4.0, 2.0]),
        instance(285, 1, [0, 0, 8, 4]),
        instance(139, 1, [0.4, 0.0, 3.6, 4.0]),
        instance(139, 1, [0, 0, 8, 2], iscrowd=1),
        instance(139, 91, [0, 0, 1, 1]),
        instance(77, 1, [0, 0, 1, 1]),
        instance(285, 44, [1, 2, None, 3]),
        instance(285, 44, [6, 1, -2, 1]),
        instance(None, 44, [1, 2, 3, 3]),
    ],
    "categories": [
        {"supercategory": "person", "id": 1, "name": "person"},
        {"supercategory": "kitchen", "id": 44, "name": " bottle"},
        {"id": 45},
    ],
}


@pytest.mark.parametrize("crowds", ["label", "box"])
def test_coco_instances(tmp_path, crowds):
    put_images(tmp_path, "000000000139.jpg", "000000000285.jpg")
    path = put_json(tmp_path / "instances_val2017.json", INSTANCES)
    records, problems = read(CocoInstances(path=path, images=str(tmp_path), crowds=crowds))
    assert boxes_of(records[0]) == [
        ("bottle", [0.25, 0.25, 0.75, 0.75]),
        ("person", [0.0, 0.05, 1.0, 0.5]),
        ("person", None if crowds == "label" else [0.0, 0.0, 0.5, 1.0]),
    ]
    assert boxes_of(records[1])[0] == ("person", [0.0, 0.0, 1.0, 1.0])  # by the file's own size
    assert boxes_of(records[1])[1:] == [("bottle", [math.inf] * 4), ("bottle", [0.25, 0.75, 0.5, 0.5])]
    assert records[0]["objects"]["verified_absent"] == [False] * 3
    assert np.isnan(records[0]["objects"]["confidence"]).all()
    flat, why = admitted(records[1])
    assert why == ["bad box", "bad box"] and flat["objects/label"] == ["person", "bottle", "bottle"]
    assert problems == [
        ("box without image or category", f"{path}: annotations 8"),
        ("category without id or name", f"{path}: categories 2"),
        ("annotation of an unknown image", f"{path}: image 77"),
        ("object of an unknown class", f"{path}: class 91"),
    ]


def test_crowds_is_checked(tmp_path):
    with pytest.raises(ValueError, match=r"crowds='no' is not known; choose one of label \| box"):
        list(CocoInstances(path="x", images="y", crowds="no").units())


def test_an_image_of_another_shape_keeps_its_labels(tmp_path):
    put_images(tmp_path, "000000000139.jpg", width=4, height=8)
    put_images(tmp_path, "000000000285.jpg")
    records, problems = read(CocoInstances(path=put_json(tmp_path / "i.json", INSTANCES), images=str(tmp_path)))
    assert ("image of another shape than annotated", f"{tmp_path}/000000000139.jpg") in problems
    assert boxes_of(records[0]) == [("bottle", None), ("person", None), ("person", None)]


@pytest.mark.parametrize("folder", ["", "images", "images/v1", "images/v1/patch8"])
def test_objects365_wherever_its_folders_begin(tmp_path, folder):
    name = "images/v1/patch8/objects365_v1_00420917.jpg"
    put_images(tmp_path, name)
    images = [{"height": 4, "id": 420917, "license": 5, "width": 8, "file_name": name, "url": ""}]
    annotations = [
        {
            "id": 1,
            "iscrowd": 0,
            "isfake": 0,
            "area": 8.0,
            "isreflected": 0,
            "bbox": [2.0000000001, 1, 4, 2],
            "image_id": 420917,
            "category_id": 2,
        }
    ]
    categories = [{"name": "Person", "id": 1}, {"name": "Street Lights", "id": 2}]
    value = {"images": images, "annotations": annotations, "categories": categories, "licenses": LICENSES}
    path = put_json(tmp_path / "zhiyuan_objv2_train.json", value)
    records, problems = read(Objects365(path=path, images=str(tmp_path / folder)))
    assert problems == [] and boxes_of(records[0]) == [("Street Lights", [0.25, 0.25, 0.75, 0.75])]
    assert records[0]["source"] == "objects365" and records[0]["id"] == "420917"
