"""docs/tasks.md is what docs/make_tasks.py writes, and has every row of the papers' tables."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from evalkit.tasks import loader

DOCS = Path(__file__).parent.parent / "docs"
# every benchmark of both papers: captions, questions, segmentation, video, the second paper's further tasks
ROWS = [
    "cococap",
    "nocaps",
    "coco35l",
    "xm3600",
    "screen2words",
    "textcaps",
    "scicap",
    "widgetcap",
    "vqav2",
    "mmvp",
    "pope",
    "objaverse_multiview",
    "okvqa",
    "aokvqa_da",
    "aokvqa_mc",
    "ai2d",
    "gqa",
    "xgqa",
    "nlvr2",
    "marvl",
    "scienceqa",
    "rsvqa_lr",
    "rsvqa_hr",
    "chartqa_human",
    "chartqa_augmented",
    "vizwiz",
    "tallyqa_simple",
    "tallyqa_complex",
    "countbenchqa",
    "ocrvqa",
    "textvqa",
    "docvqa",
    "infovqa",
    "stvqa",
    "refcoco_unc_seg",
    "refcocoplus_unc_seg",
    "refcocog_umd_seg",
    "refcoco_unc",
    "refcocoplus_unc",
    "refcocog_umd",
    "refcoco_google",
    "msrvtt_cap",
    "vatex",
    "activitynet_cap",
    "msrvtt_qa",
    "msvd_qa",
    "activitynet_qa",
    "icdar15_words",
    "totaltext_words",
    "pubtabnet",
    "fintabnet",
    "molecules_chemdraw",
    "grandstaff",
    "docci",
    "vsr_zeroshot",
    "vsr_random",
    "mimic_cxr",
    "coco_detection",
    "doclaynet",
    "custom_caption",
    "custom_vqa",
    "custom_detect",
    "custom_detect_each",
    "custom_segment",
]
SUITES = [
    "paper",
    "paligemma1_table1",
    "paligemma2_table13",
    "quick",
    "smoke",
    "captioning",
    "vqa",
    "referring",
    "text_reading",
    "multilingual",
    "video",
]


def made() -> Any:
    spec = importlib.util.spec_from_file_location("make_tasks", DOCS / "make_tasks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_in_step() -> None:
    assert (DOCS / "tasks.md").read_text(encoding="utf-8") == made().page(), "python docs/make_tasks.py"


def test_every_row_of_the_tables_has_a_task() -> None:
    names = loader.names()
    assert [row for row in ROWS if not any(name == row or name.startswith(f"{row}_") for name in names)] == []
    assert set(SUITES) <= set(loader.suites())


def test_every_task_of_the_papers_says_where_its_prompt_is_from() -> None:
    for name in loader.names():
        task = loader.load(name)
        if not name.startswith("shapes_"):
            assert task.prompt_source, name
            assert task.homepage, name
