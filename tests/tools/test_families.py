"""Every tool runs once for each family, by its command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

import catseg_d2  # noqa: F401
import groupvit_mixreorg  # noqa: F401
import mask2former_rankseg  # noqa: F401
import per_pixel  # noqa: F401
from segcore.config import load_config
from segcore.scenes import SCENES_1K, SCENES_60, Settings, write_scenes

CATSEG, MASK2FORMER, PER_PIXEL = "catseg_d2", "mask2former_rankseg", "per_pixel"
GROUPVIT = "groupvit_mixreorg"
# The tools that say something of a family, with what they are called with. `{name}` is replaced.
MODEL = "--config-file {config} {opts} MODEL.WEIGHTS {weights}"
SHRINK = "--config-file {config} {trained} {out}/small.safetensors"
EVALUATE = (
    "--config-file {config} --weights {weights} --datasets {dataset} --output {out}/evaluated "
    "-- {opts}"
)
COMMANDS = {
    CATSEG: {
        "analyze": "--config-file {config} --vocabulary sky,tree --size 96 96",
        "config_index": "",
        "controls": MODEL,
        "evaluate": EVALUATE,
        "lint_vocabulary": "scenes_60 --config-file {config} --weights {weights} --threshold 1",
        "model_zoo": "",
        "nearest_colour": "",
        "shrink": SHRINK,
        "strategies": MODEL + " INPUT.MIN_SIZE_TEST 96",
    },
    MASK2FORMER: {
        "analyze": "--config-file {config} --size 96 96",
        "evaluate": EVALUATE,
        "rank_scales": "{weights} --plot {out}/scales.svg",
        "shrink": SHRINK,
    },
    GROUPVIT: {
        "analyze": "--config-file {config} --vocabulary sky,tree --size 96 96",
        "evaluate": EVALUATE,
        "shrink": SHRINK,
    },
    PER_PIXEL: {
        "analyze": "--config-file {config} --size 96 96",
        "evaluate": EVALUATE,
        "shrink": SHRINK,
    },
}
# What asks for CAT-Seg's words says so where another family's model is named.
REFUSED = {
    "controls": MODEL,
    "lint_vocabulary": "voc20 --config-file {config}",
    "strategies": MODEL,
}
# Tools that know no family, or one alone, and the files that test them.
OTHERS = {
    "class_rows": "test_class_rows",
    "convert_clip": "test_convert_clip",
    "convert_deeplab": "test_convert_deeplab",
    "oldest": "test_oldest",
    "rank_adapter": "test_rank_dial",
    "rank_dial": "test_rank_dial",
    "word_tokenizer": "test_word_tokenizer",
}
SHIPPED = {
    CATSEG: "scenes_60",
    GROUPVIT: "scenes_60_mixreorg_cells",
    MASK2FORMER: "scenes_60_rankseg",
    PER_PIXEL: "scenes_1k_segmenter_rankseg",
}
TEST_SETS = dict.fromkeys(SHIPPED, "scenes_60_test") | {PER_PIXEL: "scenes_1k_test"}

# One process for all commands of a family, since most of a tool's time goes by importing.
PROGRAM = """
import json, runpy, sys
sys.path.insert(0, "tools")
codes = {}
for tool, arguments in json.loads(sys.argv[1]).items():
    sys.argv = [f"tools/{tool}.py", *arguments]
    print(f"== {tool}", flush=True)
    print(f"== {tool}", file=sys.stderr, flush=True)
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
        codes[tool] = 0
    except SystemExit as stop:
        codes[tool] = stop.code or 0
print("== end", json.dumps(codes))
"""


@pytest.fixture(scope="module")
def data_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("datasets")
    for catalogue in (SCENES_60, SCENES_1K):
        write_scenes(root, catalogue, Settings(num_train=4, num_test=2, size=96), workers=1)
    return root


@pytest.fixture
def run(repository, data_root, tmp_path):
    """Run tools with a family's shipped model; returns codes, and what each printed and logged."""

    def call(family: str, commands: dict[str, str]) -> tuple[dict[str, int], dict[str, str]]:
        model = SHIPPED[family]
        names = {
            "config": f"{family}/{model}.yaml",
            "weights": repository / f"demo/models/{model}.safetensors",
            "dataset": TEST_SETS[family],
            "out": tmp_path,
            "opts": f"MODEL.DEVICE cpu DATALOADER.NUM_WORKERS 0 OUTPUT_DIR {tmp_path}",
        }
        if any("{trained}" in text for text in commands.values()):
            names["trained"] = tmp_path / "trained.pth"
            cfg = load_config(names["config"], ["MODEL.DEVICE", "cpu"])
            torch.save({"model": build_model(cfg).state_dict()}, names["trained"])
        filled = {tool: text.format(**names).split() for tool, text in commands.items()}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", PROGRAM, json.dumps(filled)],
            cwd=repository,
            env=os.environ | {"PYTHONPATH": str(repository), "DETECTRON2_DATASETS": str(data_root)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        printed, _, codes = done.stdout.rpartition("== end")
        return json.loads(codes), {
            tool: _part(printed, tool) + _part(done.stderr, tool) for tool in commands
        }

    return call


def _part(text: str, tool: str) -> str:
    """What stands between a tool's line and the next tool's."""
    return text.split(f"== {tool}\n")[1].split("== ")[0]


def test_every_tool_is_here(repository) -> None:
    tools = {path.stem for path in (repository / "tools").glob("*.py")}
    assert tools == set().union(*COMMANDS.values(), OTHERS)
    for test in OTHERS.values():
        assert (repository / "tests" / "tools" / f"{test}.py").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("family", COMMANDS)
def test_tools_run(run, family, tmp_path) -> None:
    codes, said = run(family, COMMANDS[family])
    assert codes == dict.fromkeys(COMMANDS[family], 0), said
    assert all(said.values())
    report = json.loads((tmp_path / "evaluated" / "results.json").read_text())
    assert TEST_SETS[family] in json.dumps(report)
    assert (tmp_path / "small.safetensors").stat().st_size > 1e6


def test_tools_of_words_refuse_a_model_without(run) -> None:
    codes, said = run(MASK2FORMER, REFUSED)
    assert codes == dict.fromkeys(REFUSED, 2), said
    assert all(len(text.strip().splitlines()) == 1 for text in said.values()), said
