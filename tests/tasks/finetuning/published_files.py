"""A few examples of each published data set, in the files and fields in which they are published."""

from tests.data.ingest.readers.annotated import put_images, put_json, put_lines

TEN = ["net"] * 6 + ["netting", "netting", "mesh", "net"]


def _people(*answers):
    return [{"answer": a, "answer_confidence": "yes", "answer_id": i + 1} for i, a in enumerate(answers)]


def coco_captions(root):
    names = [f"COCO_{part}_{i:012d}.jpg" for part, i in (("train2014", 9), ("val2014", 25), ("val2014", 42))]
    folders = ["train2014", "val2014", "val2014"]
    put_images(root, *(f"{folder}/{name}" for folder, name in zip(folders, names, strict=True)))
    captions = ["A man on a horse.", "A horse with a man."]
    images = [
        {
            "filepath": folder, "filename": name, "cocoid": int(name[-16:-4]), "imgid": i, "split": split,
            "sentids": [1, 2], "sentences": [{"raw": raw, "tokens": raw.split(), "imgid": i} for raw in captions],
        }
        for i, (folder, name, split) in enumerate(zip(folders, names, ("train", "restval", "val"), strict=True))
    ] + [{"filepath": "val2014", "filename": names[1], "cocoid": 99, "split": "test", "sentences": []}]  # fmt: skip
    put_json(root / "annotations/dataset_coco.json", {"images": images, "dataset": "coco"})


def textcaps(root):
    put_images(root / "train_images", "a.jpg", "b.jpg")
    for split, image in (("train", "a"), ("val", "b")):
        rows = [
            {
                "image_id": image, "caption_id": i, "caption_str": text, "caption_tokens": text.split(),
                "reference_strs": ["A bottle of Kleem.", "Kleem on a table."], "image_classes": ["Bottle"],
            }
            for i, text in enumerate(["A bottle of Kleem.", "Kleem on a table."])
        ]  # fmt: skip
        put_json(root / f"TextCaps_0.1_{split}.json", {"dataset_type": split, "data": rows})
        _rosetta(root, split, image, ("table", 0.7), ("Kleem", 0.1))


def _rosetta(root, split, image, *words):
    info = [
        {"word": word, "bounding_box": {
            "width": 0.2, "height": 0.1, "rotation": 0, "top_left_x": 0.1, "top_left_y": top}}
        for word, top in words
    ]  # fmt: skip
    entry = {"image_id": image, "ocr_tokens": [word for word, _ in words], "ocr_info": info}
    put_json(root / f"TextVQA_Rosetta_OCR_v0.2_{split}.json", {"data": [entry]})


def nocaps(root):
    put_images(root / "images", "4499.jpg")
    images = [
        {"id": 0, "file_name": "4499.jpg", "open_images_id": "00", "domain": "in-domain", "width": 8, "height": 4}
    ]
    annotations = [{"image_id": 0, "id": i, "caption": f"A dog number {i}."} for i in range(10)]
    put_json(root / "nocaps_val_4500_captions.json", {"images": images, "annotations": annotations})


def vizwiz_captions(root):
    for split in ("train", "val"):
        name = f"VizWiz_{split}_00000000.jpg"
        put_images(root / split, name)
        texts = ["A can of soup.", "Quality issues are too severe to recognize visual content."]
        annotations = [
            {"id": i, "image_id": 7, "caption": text, "is_precanned": bool(i), "is_rejected": False}
            for i, text in enumerate(texts)
        ]
        images = [{"id": 7, "file_name": name, "text_detected": True}]
        put_json(root / f"annotations/{split}.json", {"images": images, "annotations": annotations})


def coco_35l(root):
    put_images(root / "images", "train2014/COCO_train2014_000000000009.jpg", "val2014/COCO_val2014_000000000042.jpg")
    for split, image in (("train", 9), ("dev", 42)):
        rows = [
            {
                "image_id": f"{image}_0", "src_lang": "en", "caption_tokenized": "a man on a horse", "trg_lang": lang,
                "translation_tokenized": text, "backtranslation_tokenized": "a man",
            }
            for lang, text in (("de", "ein Mann auf einem Pferd"), ("th", "ผู้ชายบนหลังม้า"))
        ]  # fmt: skip
        (root / "annotations").mkdir(exist_ok=True, parents=True)
        put_lines(root / f"annotations/coco_mt_{split}.jsonl", *rows)


def xm3600(root):
    put_images(root / "images", "000411001ff7dd4f.jpg")
    line = {"image/key": "000411001ff7dd4f", "image/locale": "cs"}
    for lang, texts in {"en": ["A castle.", "An old castle."], "quz": ["Hatun wasi."], "zh": ["城堡。"]}.items():
        line[lang] = {"caption": texts, "caption/tokenized": texts, "caption/tokenized/lowercase": texts}
    put_lines(root / "captions.jsonl", line)


def _vqa2(root, prefix, extra=lambda answer: {}):
    put_images(root / "images", "train2014/COCO_train2014_000000000009.jpg", "val2014/COCO_val2014_000000000042.jpg")
    for split, image in (("train2014", 9), ("val2014", 42)):
        asked = [{"image_id": image, "question": "What is it?", "question_id": image * 1000}]
        put_json(
            root / f"{prefix}OpenEnded_mscoco_{split}_questions.json",
            {"info": {}, "task_type": "Open-Ended", "data_type": "mscoco", "data_subtype": split, "questions": asked},
        )
        answers = [answer | extra(answer["answer"]) for answer in _people(*TEN)]
        annotation = {
            "question_id": image * 1000, "image_id": image, "question_type": "what is", "answer_type": "other",
            "multiple_choice_answer": "net", "answers": answers,
        }  # fmt: skip
        put_json(root / f"{prefix}mscoco_{split}_annotations.json", {"info": {}, "annotations": [annotation]})


def vqav2(root):
    _vqa2(root, "v2_")


def okvqa(root):
    _vqa2(root, "", lambda answer: {"raw_answer": answer, "answer": answer[:3]})


def textvqa(root):
    put_images(root / "train_images", "a.jpg", "b.jpg")
    for split, image in (("train", "a"), ("val", "b")):
        row = {
            "question": "what is it?", "image_id": image, "question_id": 34602, "answers": TEN, "set_name": split,
            "image_classes": ["Net"], "flickr_original_url": "", "image_width": 8, "image_height": 4,
        }  # fmt: skip
        put_json(root / f"TextVQA_0.5.1_{split}.json", {"dataset_type": split, "data": [row]})
        _rosetta(root, split, image, ("two", 0.5), ("one", 0.1))


def st_vqa(root):
    names = [f"coco-text/COCO_train2014_{i:012d}.jpg" for i in range(30)]
    put_images(root / "train", *names)
    rows = [
        {
            "dataset": "coco-text", "file_name": name.split("/")[1], "file_path": name, "question_id": i,
            "question": "What does it say?", "answers": ["Net", "the net"], "set_name": "train",
        }
        for i, name in enumerate(names)
    ]  # fmt: skip
    put_json(root / "train_task_3.json", {"data": rows, "task": 3})


def vizwiz_vqa(root):
    for split in ("train", "val"):
        put_images(root / split, f"VizWiz_{split}_00000000.jpg")
        row = {
            "image": f"VizWiz_{split}_00000000.jpg", "question": "What is it?", "answer_type": "other", "answerable": 1,
            "answers": [{"answer": a, "answer_confidence": "yes"} for a in TEN],
        }  # fmt: skip
        put_json(root / f"annotations/{split}.json", [row])


def _gqa_questions(image, number, question):
    entry = {
        "semantic": [{"operation": "select", "dependencies": [], "argument": "cat (1)"}], "question": question,
        "imageId": image, "isBalanced": True, "answer": "cat", "fullAnswer": "It is a cat.", "entailed": [],
    }  # fmt: skip
    return {number: entry}


def gqa(root):
    put_images(root / "images", "1.jpg", "n2.jpg")
    put_json(root / "train_balanced_questions.json", _gqa_questions("1", "07333408", "What is it?"))
    put_json(root / "testdev_balanced_questions.json", _gqa_questions("n2", "201307251", "What is there?"))


def xgqa(root):
    gqa(root)
    for lang, question in {"de": "Was ist da?", "en": "What is there?", "zh": "那里有什么?"}.items():
        file = root / f"zero_shot/testdev_balanced_questions_{lang}.json"
        put_json(file, _gqa_questions("n2", "201307251", question))


def xnli(root):
    root.mkdir(parents=True, exist_ok=True)
    header = "language\tgold_label\tsentence1\tsentence2\tpairID\n"
    rows = ["en\tneutral\tHe called.\tHe slept.\t1\n", "de\tneutral\tEr rief an.\tEr schlief.\t1\n"]
    for split in ("dev", "test"):
        (root / f"xnli.{split}.tsv").write_text(header + "".join(rows))
    (root / "multinli_1.0_train.txt").write_text(
        "gold_label\tsentence1\tsentence2\tpairID\nentailment\tIt rains.\tIt is wet.\t9e\n"
    )


def _squad(asked):
    qas = [
        {"id": i, "question": q, "answers": [{"text": t, "answer_start": 0} for t in texts]} for i, q, texts in asked
    ]
    return {"version": "1.1", "data": [{"title": "", "paragraphs": [{"context": "It has 308 points.", "qas": qas}]}]}


def xquad(root):
    put_json(root / "train-v1.1.json", _squad([("1", "How many points?", ["308"])]))
    for lang, question in {"de": "Wie viele?", "en": "How many?"}.items():
        put_json(root / f"xquad.{lang}.json", _squad([("2", question, ["308", "308 points"])]))


def tydiqa(root):
    put_json(root / "tydiqa-goldp-v1.1-train.json", _squad([("english-1-0", "How many?", ["308"])]))
    asked = [("finnish-1-0", "Montako?", ["308"]), ("english-2-0", "How many?", ["308", "the 308"])]
    put_json(root / "tydiqa-goldp-v1.1-dev.json", _squad(asked))


SUPER_GLUE = {
    "boolq": {"question": "is it so", "passage": "It is so.", "label": True},
    "cb": {"premise": "It was.", "hypothesis": "it is", "label": "neutral"},
    "copa": {"premise": "He fell.", "choice1": "Ice.", "choice2": "Joy.", "question": "cause", "label": 0},
    "rte": {"premise": "It rains.", "hypothesis": "It is wet.", "label": "not_entailment"},
    "wic": {"word": "place", "sentence1": "A place.", "sentence2": "To place.", "label": False, "start1": 2},
}


def _super_glue(folder, task):
    def put(root):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for split in ("train", "val"):
            put_lines(root / folder / f"{split}.jsonl", SUPER_GLUE[task] | {"idx": 0})
        unlabelled = {key: value for key, value in SUPER_GLUE[task].items() if key != "label"}
        put_lines(root / folder / "test.jsonl", unlabelled | {"idx": 0})

    return put


def imagenet(root):
    put_images(root / "ILSVRC/Data/CLS-LOC/val", "ILSVRC2012_val_00000001.JPEG", "ILSVRC2012_val_00000002.JPEG")
    (root / "LOC_val_solution.csv").write_text(
        "ImageId,PredictionString\n"
        "ILSVRC2012_val_00000001,n01443537 1 2 3 4\n"
        "ILSVRC2012_val_00000002,n01440764 1 2 3 4\n"
    )
    (root / "LOC_synset_mapping.txt").write_text(
        "n01440764 tench, Tinca tinca\nn01443537 goldfish, Carassius auratus\nn01484850 great white shark\n"
    )


PUT = {
    "coco_captions": coco_captions, "textcaps": textcaps, "nocaps": nocaps, "vizwiz_captions": vizwiz_captions,
    "coco_35l": coco_35l, "xm3600": xm3600, "vqav2": vqav2, "okvqa": okvqa, "textvqa": textvqa, "st_vqa": st_vqa,
    "vizwiz_vqa": vizwiz_vqa, "gqa": gqa, "xgqa": xgqa, "xnli": xnli, "xquad": xquad, "tydiqa": tydiqa,
    "boolq": _super_glue("BoolQ", "boolq"), "cb": _super_glue("CB", "cb"), "copa": _super_glue("COPA", "copa"),
    "rte": _super_glue("RTE", "rte"), "wic": _super_glue("WiC", "wic"), "imagenet": imagenet,
}  # fmt: skip
