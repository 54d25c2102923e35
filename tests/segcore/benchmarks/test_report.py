"""Suites, published scores, and the report of both."""

import json

import pytest
from detectron2.data import DatasetCatalog

import catseg_d2  # noqa: F401  (its models and keys)
import mask2former_rankseg  # noqa: F401
from segcore.benchmarks.page import write_page
from segcore.benchmarks.published import also_published, published_for, published_table
from segcore.benchmarks.report import Row, make_report, missing_line, remarks
from segcore.benchmarks.runs import Result, make_run, split_classes
from segcore.benchmarks.suites import (
    MESS,
    OVSS,
    SUITES,
    is_open_vocabulary,
    supported_datasets,
)
from segcore.benchmarks.tables import (
    class_table,
    mess_of_titles,
    mess_tables,
    passport_table,
    score_table,
    summary_table,
)
from segcore.benchmarks.writing import escaped, write_json_report, write_markdown
from segcore.config import find_config, load_config
from segcore.datasets.status import Status

LARGE = "catseg_d2/vitl_336.yaml"
TILES = ["TEST.SLIDING_WINDOW", "True", "MODEL.SEM_SEG_HEAD.POOLING_SIZES", "[1, 1]"]
FAMILY = "mask2former_rankseg"


# ---- suites ----------------------------------------------------------------------------------


@pytest.mark.parametrize("suite", SUITES)
def test_every_data_set_of_a_suite_is_registered(suite):
    assert set(SUITES[suite]) <= set(DatasetCatalog.list())
    assert len(set(SUITES[suite])) == len(SUITES[suite])


def test_mess_is_whole():
    assert len(MESS) == 25, "22 data sets, one of which has four parts"


def test_supported_data_sets():
    open_vocabulary = load_config(LARGE)
    assert is_open_vocabulary(open_vocabulary) and supported_datasets(open_vocabulary, OVSS) == OVSS
    assert supported_datasets(open_vocabulary, MESS) == MESS
    assert supported_datasets(open_vocabulary, SUITES["video"]) == ()
    panoptic = load_config(f"{FAMILY}/ade20k/panoptic-segmentation/maskformer2_R50_bs16_160k.yaml")
    assert not is_open_vocabulary(panoptic)
    assert supported_datasets(panoptic, SUITES["closed"]) == ("ade20k_panoptic_val",)
    assert supported_datasets(panoptic, OVSS) == ()
    semantic = load_config(f"{FAMILY}/ade20k/semantic-segmentation/maskformer2_R50_bs16_160k.yaml")
    assert supported_datasets(semantic, SUITES["closed"]) == ("ade20k_sem_seg_val",)
    video = load_config(f"{FAMILY}/youtubevis_2019/video_maskformer2_R50_bs16_8ep.yaml")
    assert supported_datasets(video, SUITES["video"]) == ("ytvis_2019_val",)


# ---- published -------------------------------------------------------------------------------


def test_published_names_are_data_sets():
    for row in published_table():
        assert row.scores and row.source and 0 <= min(row.scores.values()) <= 100
        if row.metric != "mIoU_union":
            assert set(row.scores) <= set(DatasetCatalog.list()), row
        if row.config:
            find_config(row.config)


def test_published_with_the_settings_that_a_run_has():
    dataset = "ade20k_150_test_sem_seg"
    (tiles,) = published_for(LARGE, load_config(LARGE, TILES), dataset)
    assert (tiles.score_on(dataset), tiles.differing(load_config(LARGE, TILES))) == (37.9, ())
    (whole,) = published_for(LARGE, load_config(LARGE), dataset)
    assert whole.score_on(dataset) == 35.7
    base = "catseg_d2/vitb_384.yaml"
    (only,) = published_for(base, load_config(base), dataset)
    assert only.score_on(dataset) == 31.8
    assert only.differing(load_config(base))[0] == "TEST.SLIDING_WINDOW True"


def test_published_of_mess_and_of_the_model_zoo():
    (dram,) = published_for(LARGE, load_config(LARGE, TILES), "dram_sem_seg_test")
    assert (dram.metric, dram.score_on("dram_sem_seg_test")) == ("mIoU_union", 73.82)
    assert len(also_published("dram_sem_seg_test")) == 13
    config = f"{FAMILY}/ade20k/panoptic-segmentation/maskformer2_R50_bs16_160k.yaml"
    found = published_for(config, load_config(config), "ade20k_panoptic_val")
    assert {each.metric: each.score_on("ade20k_panoptic_val") for each in found} == {
        "PQ": 39.7,
        "AP": 26.5,
        "mIoU": 46.1,
    }
    assert published_for(config, load_config(config), "ade20k_sem_seg_val") == ()


def test_published_means_of_mess_follow_from_its_rows():
    """The paper prints the mean of each row; by domain they are in none of the files."""
    rows = {row.method: row for row in published_table() if row.metric == "mIoU_union"}
    assert mess_of_titles(rows["CAT-Seg-B"].scores).mean == pytest.approx(31.96, abs=0.01)
    large = mess_of_titles(rows["CAT-Seg-L"].scores)
    assert large.mean == pytest.approx(34.7, abs=0.01) and not large.missing
    assert {name: round(value, 2) for name, value in large.domains.items()} == {
        "General": 44.69,
        "Earth Monitoring": 39.99,
        "Medical Sciences": 24.7,
        "Engineering": 20.2,
        "Agriculture and Biology": 38.61,
    }


# ---- the report ------------------------------------------------------------------------------


def result(tmp_path, run, dataset, value, classes=None):
    """The result of an evaluation, without images."""
    passport = {"evaluator": {"name": "E"}, "dataset": {"name": dataset, "count": 3}}
    scores = {"sem_seg": {"mIoU": value + 1, "mIoU_union": value}}
    return run, Result(passport, scores, classes or {}, tmp_path)


@pytest.fixture
def runs(tmp_path):
    return [
        make_run(title, LARGE, "", options, tmp_path, OVSS, {})
        for title, options in (("plain", ()), ("tiles", TILES))
    ]


def test_measured_beside_published(tmp_path, runs):
    dataset = "ade20k_150_test_sem_seg"
    classes = [{"wall": {"IoU": 10.0, "ACC": 1.0}}, {"wall": {"IoU": 12.5, "ACC": 2.0}}]
    results = [result(tmp_path, runs[i], dataset, 30.0 + i, classes[i]) for i in range(2)]
    report = make_report("Two", results, [], {})
    header, (plain, tiles) = summary_table(report)
    assert header[-3:] == ["measured", "published", "difference"]
    assert plain == [dataset, "plain", "3", "mIoU", "31.00", "35.70", "-4.70"]
    assert tiles == [dataset, "tiles", "3", "mIoU", "32.00", "37.90", "-5.90"]
    assert score_table(report.rows)[1][0] == ["mIoU", "31.00", "32.00", "+1.00"]
    header, rows = class_table(report.rows)
    assert header == ["class", "IoU, plain", "IoU, tiles", "difference"]
    assert rows == [["wall", "10.00", "12.50", "+2.50"]]
    assert class_table(report.rows[:1]) == (["class", "IoU", "ACC"], [["wall", "10.00", "1.00"]])
    assert ["dataset: count", "3", "3"] in passport_table(report.rows)[1]


def test_remarks(tmp_path, runs):
    base = make_run("base", "catseg_d2/vitb_384.yaml", "", (), tmp_path, (), {})
    dataset = "ade20k_150_test_sem_seg"
    status = Status(dataset, "ade20k_150", "images", 3, 2000, ())
    report = make_report("", [result(tmp_path, base, dataset, 1.0)], [], {dataset: status})
    few, published = remarks(report, report.rows)
    assert "3 images here, the benchmark has 2,000" in few
    assert "31.8" in published and "TEST.SLIDING_WINDOW True" in published
    assert "mIoU_union is the other convention" in published
    mess = make_report("", [result(tmp_path, runs[1], "dram_sem_seg_test", 50.0)], [], {})
    assert "MESS counts a class that is only predicted as 0" in remarks(mess, mess.rows)[0]


def test_mess_by_domain(tmp_path, runs):
    results = [result(tmp_path, runs[1], name, 10.0 + i) for i, name in enumerate(MESS)]
    report = make_report("MESS", results, [], {})
    assert all(row.metric == "mIoU_union" for row in report.rows)
    by_domain, by_set = mess_tables(report)
    assert by_domain[0][1:] == [*report.mess()["tiles"].domains, "mean"]
    assert by_domain[1][0][0] == "tiles, measured"
    assert ["CAT-Seg-L", "44.69", "39.99", "24.70", "20.20", "38.61", "34.71"] in by_domain[1]
    assert len(by_set[1]) == 22
    part = make_report("", results[:3], [], {})
    assert len(part.mess()["tiles"].missing) == 22
    one_of_four = [each for each in results if "paxray" in each[1].dataset][:1]
    assert mess_tables(make_report("", one_of_four, [], {})) is None


def test_files(tmp_path, runs):
    results = [result(tmp_path, runs[1], name, 10.0) for name in MESS[:2]]
    lost = Status("cub_200_sem_seg_test", "MESS", "images", 0, 5, ("a/b",))
    report = make_report("<MESS> | all", results, [(lost, "Do this.")], {})
    write_json_report(report, tmp_path / "results.json")
    content = json.loads((tmp_path / "results.json").read_text())
    assert content["mess"]["tiles"]["mean"] == 10.0
    assert content["missing"] == [
        {"dataset": "cub_200_sem_seg_test", "lacking": ["a/b"], "how": "Do this."}
    ]
    write_markdown(report, tmp_path / "results.md")
    text = (tmp_path / "results.md").read_text()
    assert r"# &lt;MESS&gt; \| all" in text
    assert "## MESS" in text and "- cub_200_sem_seg_test: there is no a/b. Do this." in text
    page = write_page(report, tmp_path / "page").read_text()
    assert "&lt;MESS&gt; | all" in page and "<MESS>" not in page
    assert "MESS by domain" in page and "23 data sets have no score" in page
    assert "there is no a/b" in page


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("<img src=x onerror=alert(1)>", "&lt;img src=x onerror=alert(1)&gt;"),
        ("a | b", r"a \| b"),
        ("[a](http://b)", r"\[a\](http\://b)"),
        ("www.a.de, b@c.de", r"www\.a.de, b\@c.de"),
        ("`x` *y* __z__ ~~q~~ \\", r"\`x\` \*y\* \_\_z\_\_ \~\~q\~\~ \\"),
        ("ade20k_150_val, 3.5 & more", "ade20k_150_val, 3.5 &amp; more"),
        ("a\nb \x1b[2J", r"a b \\x1b\[2J"),
    ],
)
def test_markdown_shows_names_as_they_are(text, shown):
    assert escaped(text) == shown


def test_without_public_ground_truth(tmp_path, runs):
    run, found = result(tmp_path, runs[0], "ytvis_2019_val", 1.0)
    row = Row(run, Result(found.passport, {}, {}, tmp_path), ())
    assert row.metric is None and row.score is None and row.expected is None
    report = make_report("", [(run, row.result)], [], {})
    assert summary_table(report)[1][0][3:] == ["no public ground truth", "-"]


def test_scores_of_classes():
    nan = float("nan")
    scores = {
        "sem_seg": {"mIoU": 1.0, "mIoU-seen": 2.0, "IoU-a-b": 3.0, "ACC-a-b": nan},
        "segm": {"AP": nan, "AP50": 4.0, "AP-a-b": 5.0},
    }
    assert split_classes(scores) == (
        {"sem_seg": {"mIoU": 1.0, "mIoU-seen": 2.0}, "segm": {"AP": None, "AP50": 4.0}},
        {"a-b": {"IoU": 3.0, "ACC": None, "AP": 5.0}},
    )


def test_an_empty_folder_is_missing():
    status = Status("a", "b", "images", 0, 5, ())
    assert missing_line(status, "How.") == "a: there is no image of a. How."
