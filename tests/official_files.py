"""Tiny datasets in the official forms of the benchmarks whose tasks come along, by task name."""

from __future__ import annotations

import csv
import io
import json
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dataset_files as base
from PIL import Image

from evalkit.tasks import loader


class Lines(list[Any]):
    """Written as JSON lines whatever the file is called."""


class Folder(dict[str, Any]):
    """File names below a folder, with their contents."""


def answers(*texts: str) -> list[dict[str, Any]]:
    return [{"answer": t, "answer_confidence": "yes", "answer_id": i + 1} for i, t in enumerate(texts)]


def pope(first: str) -> Lines:
    return Lines(
        {
            "question_id": n,
            "image": f"COCO_val2014_{number:012d}.jpg",
            "text": f"Is there a {first} in the image?",
            "label": "yes" if n % 2 else "no",
        }
        for n, number in enumerate((310196, 310196, 42), 1)
    )


def gqa(question: str) -> dict[str, Any]:
    return {
        "201640614": {
            "imageId": "n235859",
            "question": question,
            "answer": "women",
            "isBalanced": True,
            "fullAnswer": "The women are wearing a dress.",
            "groups": {"global": None, "local": "10q-dress"},
            "types": {"detailed": "relS", "semantic": "rel", "structural": "query"},
            "entailed": ["201640614", "201640615"],
            "semantic": [
                {"operation": "select", "dependencies": [], "argument": "dress (1)"},
                {"operation": "query", "dependencies": [0], "argument": "name"},  # which isn't counted
            ],
        },
        "201640615": {"imageId": "7", "question": question, "answer": "no", "isBalanced": True},
    }


def marvl(language: str) -> Lines:
    return Lines(
        {
            "concept": "39-Panci",
            "language": language,
            "caption": "Kedua gambar.",
            "left_img": "39-8.jpg",
            "right_img": f"39-{n}.jpg",
            "annotator_info": {},
            "chapter": "Basic actions",
            "id": f"{language}-{n}",
            "label": bool(n),
        }
        for n in (0, 1)
    )


TOKENS = {
    "structure": {
        "tokens": [
            "<thead>",
            "<tr>",
            "<td>",
            "</td>",
            "<td",
            ' colspan="2"',
            ">",
            "</td>",
            "</tr>",
            "</thead>",
        ]
    },
    "cells": [{"tokens": ["<b>", "A", "</b>"], "bbox": [1, 4, 20, 13]}, {"tokens": []}],
}
AOKVQA = [
    {
        "split": "val",
        "image_id": 461751,
        "question_id": "22jbM6gDxdaMaunuzgrsBB",
        "question": "What is in his mouth?",
        "choices": ["toothpick", "food", "popsicle stick", "cigarette"],
        "correct_choice_idx": 3,
        "direct_answers": ["cigarette"] * 9 + ["food"],
        "difficult_direct_answer": False,
        "rationales": ["He is smoking.", "x", "y"],
    }
]
AOKVQA_TEST = [
    {k: v for k, v in AOKVQA[0].items() if k not in ("correct_choice_idx", "direct_answers")}
    | {"split": "test"}
]
INFOVQA = {
    "dataset_name": "infographicVQA",
    "dataset_version": "1.0",
    "dataset_split": "val",
    "data": [
        {
            "questionId": 98313,
            "question": "Which platforms?",
            "image_local_name": "37313.jpeg",
            "image_url": "",
            "ocr_output_file": "37313.json",
            "answers": ["pinterest, x, y", "twitter"],
            "answer_type": ["multi-span"],
            "data_split": "val",
        }
    ],
}
STVQA = {
    "dataset_name": "stvqa",
    "dataset_split": "train",
    "dataset_version": 1.0,
    "task_name": "task_3",
    "data": [
        {
            "question_id": n,
            "question": "What brand is it?",
            "answers": ["Coca-Cola"],
            "dataset": "coco-text",
            "file_path": "coco-text/COCO_train2014_000000000042.jpg",
            "file_name": "COCO_train2014_000000000042.jpg",
        }
        for n in (7, 8)
    ],
}
VIZWIZ = [
    {
        "image": f"VizWiz_val_0000000{n}.jpg",
        "question": "Ok. There is another picture.",
        "answerable": 0,
        "answers": answers(*["unsuitable"] * 8, "", "a dog"),
        "answer_type": "unanswerable",
    }
    for n in (0, 1)
]
TALLY = [
    {
        "answer": 4,
        "data_source": "imported_genome",
        "image": "VG_100K_2/2410408.jpg",
        "image_id": 92410408,
        "issimple": simple,
        "question": "How many headlights does the bus have?",
        "question_id": 30095774 + simple,
    }
    for simple in (False, True)
]
VSR = Lines(
    {
        "image": "000000085637.jpg",
        "image_link": "http://x",
        "caption": "The banana is touching the laptop.",
        "label": label,
        "relation": "touching",
        "annotator_id": 1,
        "vote_true_validator_id": [2],
        "vote_false_validator_id": [],
    }
    for label in (1, 0)
)
RSVQA = {
    "questions": {
        "questions": [
            {
                "id": n,
                "date_added": 0,
                "img_id": 2,
                "people_id": 0,
                "type": kind,
                "question": "Is a road present?",
                "answers_ids": [n],
                "active": n != 9,
            }
            for n, kind in ((5, "presence"), (6, "comp"), (7, "count"), (9, "comp"))
        ]
    },
    "answers": {
        "answers": [
            {"id": n, "date_added": 0, "question_id": n, "people_id": 0, "answer": "yes", "active": n != 9}
            for n in (5, 6, 7, 9)
        ]
    },
}
COCO_MT = Lines(
    {
        "image_id": f"1234_{k}",
        "trg_lang": language,
        "caption_tokenized": f"a red bus {k}",
        "translation_tokenized": f"{language} bus {k}",
    }
    for k in (0, 1)
    for language in ("de", "fr")
)
KARPATHY_MT = {
    "dataset": "coco",
    "images": [
        {
            "filepath": "val2014",
            "filename": "COCO_val2014_000000001234.jpg",
            "cocoid": 1234,
            "imgid": 0,
            "split": "val",
            "sentids": [0],
            "sentences": [],
        }
    ],
}
XM3600 = Lines(
    {
        "image/key": key,
        "image/locale": "de",
        **{
            lang: {
                "caption": [f"{lang} dog", "x"],
                "caption/tokenized": [f"{lang} dog"],
                "caption/tokenized/lowercase": [f"{lang} dog"],
            }
            for lang in ("en", "de", "th")
        },
    }
    for key in ("0001ab34cd56ef78", "0002ab34cd56ef78")
)
NOCAPS = {
    **base.CAPTIONS,
    "images": [
        {**image, "open_images_id": "0013ea2087020901", "domain": domain}
        for image, domain in zip(base.CAPTIONS["images"], ("in-domain", "out-domain"), strict=True)
    ],
}
SCICAP_VERSION = "1-lowercase-and-token-and-remove-figure-index"
HIERARCHY = {
    "activity": {
        "root": {
            "bounds": [0, 0, 1440, 2560],
            "children": [{"bounds": [0, 0, 10, 10]}, {"bounds": [100, 200, 400, 700], "children": []}],
        }
    }
}
KERN = "**kern\t**kern\n*clefF4\t*clefG2\n4C\t4cc\n*-\t*-\n"
VIDEO_QA = [
    {"id": n, "video_id": 7010, "category_id": 14, "question": "what is a man doing?", "answer": "talk"}
    for n in (0, 1)
]
AI2D_QUESTION = {
    "abcLabel": True,
    "answerTexts": ["c", "D", "b", "a"],
    "correctAnswer": 1,
    "questionId": "0.png-0",
}
AI2D = {
    "questions": Folder(
        {
            "0.png.json": {
                "imageName": "0.png",
                "questions": {
                    "What is shown at B?": AI2D_QUESTION,
                    "What eats grass?": {
                        "abcLabel": False,
                        "answerTexts": ["cow", "sun", "fox", "owl"],
                        "correctAnswer": 0,
                        "questionId": "0.png-1",
                    },
                },
            },
            "3.png.json": {
                "imageName": "3.png",
                "questions": {"In train?": {**AI2D_QUESTION, "questionId": "3.png-0"}},
            },
        }
    ),
    "annotations": Folder(
        {
            "0.png.json": {
                "text": {"T0": {"rectangle": [[2, 3], [40, 30]], "replacementText": "A", "value": "grass"}},
                "arrows": {},
                "blobs": {},
            }
        }
    ),
    "ids": "0\n2\n",
}
SCIENCEQA = {
    "problems": {
        pid: {
            "question": "Which colony?",
            "choices": ["Maryland", "Maine"],
            "answer": 0,
            "hint": hint,
            "image": image,
            "task": "closed choice",
            "grade": "grade5",
            "subject": "social science",
            "topic": "us-history",
            "category": "",
            "skill": "",
            "lecture": "",
            "solution": "",
            "split": "test",
        }
        for pid, hint, image in (("7", "", "image.png"), ("8", "Look.", "image.png"), ("9", "", None))
    },
    "splits": {"train": [], "val": [], "test": ["7", "8", "9"], "trainval": [], "minitest": []},
}
OCRVQA = {
    book: {
        "imageURL": f"http://images.example/{book}.jpg",
        "split": split,
        "title": "A Book",
        "authorName": "J. Doe",
        "genre": "Travel",
        "questions": ["Who wrote this book?", "What is the title?"],
        "answers": ["J. Doe", "A Book"],
    }
    for book, split in (("0027239934", 3), ("1", 1))
}
NLVR2 = Lines(
    {
        "validation": {"28": "False"},
        "sentence": "There is an empty glass.",
        "left_url": "http://x",
        "writer": "103",
        "label": label,
        "right_url": "https://y",
        "synset": "beer bottle",
        "query": "bottles41",
        "identifier": f"test1-0-1-{n}",
        "extra_validations": {},
    }
    for n, label in enumerate(("False", "True"))
)
DOCLAYNET = {
    "images": [
        {"id": 1, "width": 64, "height": 48, "file_name": "132a.png", "doc_category": "laws", "precedence": 0}
    ],
    "annotations": [
        {
            "id": 8,
            "image_id": 1,
            "category_id": 1,
            "bbox": [20.06, -1.15, 13.99, 19.27],
            "area": 269.6,
            "iscrowd": 0,
            "precedence": 0,
            "segmentation": [],
        }
    ],
    "categories": [{"id": 1, "name": "Caption"}, {"id": 2, "name": "Footnote"}],
}
MSRVTT = {
    "videos": [{"video_id": "video7010", "id": 7010, "split": "test", "start time": 0.0, "end time": 9.0}],
    "sentences": [{"video_id": "video7010", "sen_id": n, "caption": f"a man talks {n}"} for n in (0, 1)],
}


def picture(size: tuple[int, int] = (64, 48), seed: int = 0, mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, (seed * 37 % 256, 90, 200)).convert(mode).save(out, "PNG")
    return out.getvalue()


COUNTS = [
    {"number": n, "text": "ten", "image": {"bytes": picture(seed=n, mode=m), "path": None}}
    for n, m in ((10, "RGB"), (3, "RGB"), (4, "L"))
]
COUNTS.append({"number": 2, "text": "gone", "image": None})  # type: ignore[dict-item]
WORDS = {
    "words": Folder(
        {"gt_img_1.txt": "\ufeff7,1,46,7,46,13,38,13,Genaxis, Theatre\r\n4,1,5,1,5,1,4,1,###\r\n"}
    ),
    "images": Folder({"img_1.jpg": picture()}),
}
CURVED = {
    "words": Folder(
        {
            "poly_gt_img1.txt": "x: [[20 25 38]], y: [[6 8 9]], ornt: [u'c'], transcriptions: [u'ASRAMA']\n"
            "x: [[1 2 3]], y: [[1 2 1]], ornt: [u'#'], transcriptions: [u'#']\n"
        }
    ),
    "images": Folder({"img1.jpg": picture()}),
}
LINES = [{"image": "a.png", "question": "What?", "answer": "a", "indication": "cough", "thing": "dog"}]

# task -> {key of its first source: content}
OFFICIAL: dict[str, dict[str, Any]] = {
    "nocaps_val": {"path": NOCAPS},
    "coco35l_dev": {"path": COCO_MT, "karpathy": KARPATHY_MT},
    "coco35l_en_dev": {"path": COCO_MT, "karpathy": KARPATHY_MT},
    "xm3600_test": {"path": XM3600},
    "xm3600_tokenized_test": {"path": XM3600},
    "xm3600_en_test": {"path": XM3600},
    "screen2words_test": {
        "path": [
            ["screenId", "summary"],
            ["12345", "login page, of a shop"],
            ["6", "not test"],
            ["12345", "sign in"],
        ],
        "only": "12345\n77\n",
    },
    "textcaps_val": {
        "path": {
            "dataset_name": "textcaps",
            "dataset_version": 0.1,
            "data": [
                {
                    "image_id": "0054c91397f2fe05",
                    "image_name": "0054c91397f2fe05",
                    "caption_id": n,
                    "set_name": "val",
                    "caption_str": f"A sign says stop {n}.",
                    "image_path": "train/0054c91397f2fe05.jpg",
                }
                for n in (1, 2)
            ],
        }
    },
    "scicap_test": {
        "lists": Folder({"test/file_idx.json": ["1001.0025v1-Figure2-1.png"]}),
        "captions": Folder(
            {
                "test/1001.0025v1-Figure2-1.json": {
                    "contains-subfigure": False,
                    "paper-ID": "1001.0025v1",
                    SCICAP_VERSION: {
                        "caption": "a plot of x .",
                        "sentence": ["a plot of x ."],
                        "token": ["a"],
                    },
                }
            }
        ),
    },
    "widgetcap_test": {
        "path": [
            ["screenId", "nodeId", "captions", "datasetId"],
            ["1234", "0.1", "go back|back arrow", "r"],
            ["99", "0.1", "train", "r"],
        ],
        "splits": Folder({"test.txt": "1234\n", "train.txt": "99\n"}),
        "images": Folder({"1234.json": HIERARCHY, "1234.jpg": picture((36, 64))}),
    },
    "vqav2_testdev": {"questions": {**base.QUESTIONS, "data_subtype": "test-dev2015"}},
    "vqav2_test": {"questions": {**base.QUESTIONS, "data_subtype": "test2015"}},
    "vqav2_minival": {"questions": base.QUESTIONS, "annotations": base.ANSWERS, "only": "42001\n"},
    "mmvp_test": {
        "path": [
            ["Index", "Question", "Options", "Correct Answer"],
            ["1", "Are the wings open or closed?", "(a) Open (b) Closed", "(a)"],
            ["2", "Are the wings open or closed?", "(a) Open (b) Closed", "(b)"],
        ]
    },
    "pope_test": {
        "path.random": pope("cat"),
        "path.popular": pope("person"),
        "path.adversarial": pope("dog"),
    },
    "okvqa_val": {
        "questions": {
            "info": {},
            "task_type": "Open-Ended",
            "license": {},
            "data_type": "mscoco",
            "data_subtype": "val2014",
            "questions": [{"image_id": 42, "question": "What sport uses this?", "question_id": 425}],
        },
        "annotations": {
            "annotations": [
                {
                    "question_id": 425,
                    "image_id": 42,
                    "question_type": "four",
                    "answer_type": "other",
                    "confidence": 3,
                    "answers": [
                        {
                            "answer_id": n + 1,
                            "raw_answer": "surfing",
                            "answer": "surf",
                            "answer_confidence": "yes",
                        }
                        for n in range(10)
                    ],
                }
            ],
            "question_types": {"four": "Sports"},
        },
    },
    "aokvqa_da_val": {"path": AOKVQA},
    "aokvqa_mc_val": {"path": AOKVQA},
    "aokvqa_da_test": {"path": AOKVQA_TEST},
    "aokvqa_mc_test": {"path": AOKVQA_TEST},
    "ai2d_test": {**AI2D, "images": Folder({"0.png": picture(), "3.png": picture()})},
    "gqa_testdev_balanced": {"path": gqa("Who is wearing the dress?")},
    "xgqa_test": {
        f"path.{language}": gqa(f"{language}?")
        for language in ("bn", "de", "en", "id", "ko", "pt", "ru", "zh")
    },
    "nlvr2_test": {"path": NLVR2},
    "marvl_test": {f"path.{language}": marvl(language) for language in ("id", "sw", "ta", "tr", "zh")},
    "scienceqa_test": SCIENCEQA,
    "rsvqa_lr_test": RSVQA,
    "rsvqa_hr_test": RSVQA,
    "rsvqa_hr_test2": RSVQA,
    "vizwiz_val": {"path": VIZWIZ},
    "vizwiz_test": {"path": [{"image": "VizWiz_test_00000000.jpg", "question": "What is it?"}]},
    "tallyqa_simple_test": {"path": TALLY},
    "tallyqa_complex_test": {"path": TALLY},
    "countbenchqa_test": {
        "questions": [
            {"question": f"How many {w} are there in the image?"} for w in ("cats", "dogs", "bats", "owls")
        ],
        "table": COUNTS,
    },
    "countbenchqa_540_test": {
        "questions": [{"question": "How many cats are there in the image?"}] * 3,
        "table": COUNTS[:3],
    },
    "ocrvqa_test": {"path": OCRVQA},
    "textvqa_test": {
        "path": {
            **base.TEXTVQA,
            "dataset_type": "test",
            "data": [
                {k: v for k, v in base.TEXTVQA["data"][0].items() if k != "answers"} | {"set_name": "test"}
            ],
        }
    },
    "docvqa_test": {
        "path": {
            **base.DOCVQA,
            "dataset_split": "test",
            "data": [
                {k: v for k, v in base.DOCVQA["data"][0].items() if k != "answers"} | {"data_split": "test"}
            ],
        }
    },
    "infovqa_val": {"path": INFOVQA},
    "infovqa_test": {
        "path": {
            **INFOVQA,
            "dataset_split": "test",
            "data": [{"questionId": 1, "question": "How many?", "image_local_name": "1.jpeg"}],
        }
    },
    "stvqa_val": {"path": STVQA, "only": "8\n"},
    "stvqa_test": {
        "path": {
            **STVQA,
            "dataset_split": "test",
            "data": [
                {"question_id": 9, "question": "What?", "file_path": "vizwiz/a.jpg", "dataset": "vizwiz"}
            ],
        }
    },
    "vsr_zeroshot_test": {"path": VSR},
    "vsr_random_test": {"path": VSR},
    "objaverse_multiview_test": {"path": LINES},
    "msrvtt_cap_test": {
        "path": MSRVTT,
        "images": Folder({"video7010/1.png": picture(), "video7010/2.png": picture(seed=1)}),
    },
    "vatex_test": {
        "path": [{"videoID": "Ptf_2VRj-V0_000122_000132", "enCap": ["A man climbs.", "Up."], "chCap": ["x"]}]
    },
    "activitynet_cap_test": {
        "path": {
            "v_a-B1": {
                "duration": 82.7,
                "timestamps": [[0.83, 19.86], [17.37, 60.81]],
                "sentences": ["A woman talks.", " She dances."],
            }
        }
    },
    "msrvtt_qa_test": {"path": VIDEO_QA},
    "msvd_qa_test": {
        "path": [{**q, "video_id": 1301} for q in VIDEO_QA],
        "image_map": "-4wsuPCjDBc_5_15 vid1301\n",
    },
    "activitynet_qa_test": {
        "path": [{"question": "is it day", "video_name": "1QIUV7WYKXg", "question_id": "v_1QIUV7WYKXg_3"}],
        "answers": [{"answer": "yes", "type": 3, "question_id": "v_1QIUV7WYKXg_3"}],
    },
    "icdar15_words_test": WORDS,
    "totaltext_words_test": CURVED,
    "pubtabnet_val": {
        "path": Lines([{"filename": "PMC1_0.png", "split": "val", "imgid": 1, "html": TOKENS}])
    },
    "fintabnet_test": {
        "path": Lines(
            [
                {
                    "filename": "HAL/2009/page_77.pdf",
                    "table_id": 1,
                    "split": "test",
                    "bbox": [46.0, 300.1, 560.2, 700.0],
                    "html": TOKENS,
                }
            ]
        )
    },
    "molecules_chemdraw_test": {
        "path": [["image_id", "file_path", "SMILES"], ["0", "synthetic/chemdraw/0.png", "Fc1ccccc1"]]
    },
    "grandstaff_test": {
        "lists": Folder({"test.txt": "beethoven/piano-sonatas/sonata01-1/original_m-0-5.krn\n"}),
        "images": Folder({"beethoven/piano-sonatas/sonata01-1/original_m-0-5.krn": KERN}),
    },
    "docci_qual_dev": {
        "path": Lines(
            [
                {
                    "example_id": "qual_dev_00000",
                    "split": "qual_dev",
                    "image_file": "qual_dev_00000.jpg",
                    "description": "A close up of ...",
                },
                {
                    "example_id": "train_00000",
                    "split": "train",
                    "image_file": "train_00000.jpg",
                    "description": "No.",
                },
            ]
        )
    },
    "mimic_cxr_test": {"path": LINES},
    "doclaynet_test": {"path": DOCLAYNET},
    "custom_caption": {"path": LINES},
    "custom_vqa": {"path": LINES},
    "custom_detect": {
        "path": [
            {
                "image": "a.png",
                "thing": "dog",
                "size": [48, 64],
                "objects": [{"category": "dog", "bbox": [1, 2, 30, 40]}],
            }
        ]
    },
    "custom_segment": {
        "path": [
            {
                "image": "a.png",
                "thing": "dog",
                "size": [48, 64],
                "bbox": [10, 20, 20, 20],
                "segmentation": base.SQUARE,
            }
        ]
    },
}
# tasks of formats whose fixtures are older
OLDER = {
    "coco_captions": ("coco_captions_2017_val",),
    "karpathy": ("cococap_val",),
    "coco_detection": ("coco_detection_val2017",),
    "vqa_json": ("vqav2_val",),
    "textvqa": ("textvqa_val",),
    "docvqa": ("docvqa_val",),
    "chartqa": ("chartqa_human_test", "chartqa_augmented_test"),
}
for _name, _tasks in OLDER.items():
    OFFICIAL |= dict.fromkeys(_tasks, base.DATASETS[_name][3])
OFFICIAL["custom_detect_each"] = base.DATASETS["coco_detection"][3]
OFFICIAL["coco_detection_testdev2017"] = {
    "path": {key: base.INSTANCES[key] for key in ("images", "categories")}
}
OFFICIAL["chartqa_test"] = dict.fromkeys(("path.human", "path.augmented"), base.CHARTQA)
_WIDGETS = OFFICIAL["widgetcap_test"]
OFFICIAL["widgetcap_dev"] = {**_WIDGETS, "splits": Folder({"dev.txt": "1234\n", "train.txt": "99\n"})}
OFFICIAL["vqav2_train"] = {
    "questions": {**base.QUESTIONS, "data_subtype": "train2014"},
    "annotations": base.ANSWERS,
}
# the RefCOCO family: names end in the split
OFFICIAL |= {
    task: {"refs": [{**base.REFS[0], "split": task.rpartition("_")[2]}], "instances": base.INSTANCES}
    for task in loader.names()
    if task.startswith("refcoco")
}


def write(root: Path, entry: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Writes the files of a source, each under the path that the source's entry names for its key."""
    for key, content in given.items():
        outer, _, group = key.partition(".")
        put(root / (entry[outer][group] if group else entry[outer]), content)


def put(path: Path, content: Any) -> None:
    if isinstance(content, Folder):
        path.mkdir(parents=True, exist_ok=True)
        for name, inner in content.items():
            put(path / name, inner)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    suffix = path.suffix
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif suffix == ".p":
        path.write_bytes(pickle.dumps(content, protocol=2))
    elif suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.Table.from_pylist(content), path)
    elif isinstance(content, str) and suffix != ".json":
        path.write_text(content, encoding="utf-8", newline="")
    elif suffix == ".csv" and isinstance(content, list):
        text = io.StringIO()
        csv.writer(text).writerows(row if isinstance(row, list) else [row] for row in content)
        path.write_text(text.getvalue(), encoding="utf-8", newline="")
    elif isinstance(content, Lines) or suffix in (".jsonl", ".jsonlines"):
        rows = content if isinstance(content, list) else [content]
        path.write_text("".join(json.dumps(line) + "\n" for line in rows), encoding="utf-8")
    else:
        path.write_text(json.dumps(content), encoding="utf-8")
