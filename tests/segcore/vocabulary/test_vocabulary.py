"""Vocabularies: every form, and one error message for every error."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from segcore.errors import UserError
from segcore.vocabulary import Vocabulary, clean, distinct_colors, registered_names
from segcore.vocabulary import checks as vocabulary_checks

LISTS = {"ade150": 150, "ade847": 847, "coco": 171, "pc59": 59, "pc459": 459, "voc20b": 59}


def write(folder: Path, content: object) -> Path:
    path = folder / "mine.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", registered_names())
def test_registered(name: str) -> None:
    vocabulary = Vocabulary.registered(name)
    assert vocabulary.name == name
    for column in (vocabulary.prompts, vocabulary.synonyms, vocabulary.colors):
        assert len(column) == len(vocabulary) > 0
    assert len(set(map(clean, vocabulary.names))) == len(vocabulary)
    assert all(
        len(color) == 3 and 0 <= min(color) <= max(color) <= 255 for color in vocabulary.colors
    )


@pytest.mark.parametrize(("alias", "size"), LISTS.items())
def test_paths_that_users_of_the_reference_type(alias: str, size: int) -> None:
    vocabulary = Vocabulary.load(f"datasets/{alias}.json")
    assert len(vocabulary) == size
    assert vocabulary == Vocabulary.load(alias) == Vocabulary.load(vocabulary.name)


@pytest.mark.parametrize("alias", ["ade150", "ade847", "coco", "voc20"])
def test_prompts_equal_the_published_lists(golden: Path, alias: str) -> None:
    path = golden / "catseg" / "vocab" / f"{alias}.json"
    published = [text.split(", ")[0] for text in json.loads(path.read_text("utf-8"))]
    assert list(Vocabulary.load(alias).prompts) == published
    assert list(Vocabulary.load(path).prompts) == published


def test_background_protocol_prompts_with_objects_first() -> None:
    names = Vocabulary.load("voc20b").names
    assert names[:20] == Vocabulary.load("voc20").names
    assert sorted(names) == sorted(Vocabulary.load("pc59").names)


def test_typed_class_names() -> None:
    vocabulary = Vocabulary.load("sky,  tree , my dog")
    assert vocabulary.prompts == vocabulary.names == ("sky", "tree", "my dog")
    assert len(set(vocabulary.colors)) == 3
    assert Vocabulary.load("sky").names == ("sky",)


def test_list_keeps_synonyms_and_spaces_as_published() -> None:
    vocabulary = Vocabulary.load(["bed ", "sofa, couch, settee", "left,right"])
    assert vocabulary.prompts == ("bed ", "sofa", "left,right")
    assert vocabulary.synonyms == ((), ("couch", "settee"), ())
    assert vocabulary.names == ("bed", "sofa, couch, settee", "left,right")


def test_existing_file_wins_over_alias(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "ade150.json").write_text('["only this"]')
    monkeypatch.chdir(tmp_path)
    assert Vocabulary.load("datasets/ade150.json").names == ("only this",)


def test_object_form(tmp_path: Path) -> None:
    classes = [
        {"name": "cat", "synonyms": ["kitten"], "color": [1, 2, 3], "seen": True, "dataset_id": 7},
        {"name": "dog", "prompt": "a dog", "seen": False, "dataset_id": [0, 255, 0]},
    ]
    file = write(tmp_path, {"name": "pets", "ignore_label": 2, "classes": classes})
    vocabulary = Vocabulary.load(file)
    assert (vocabulary.name, vocabulary.ignore_label) == ("pets", 2)
    assert vocabulary.prompts == ("cat", "a dog")
    assert vocabulary.seen == (True, False)
    assert vocabulary.dataset_ids == (7, (0, 255, 0))
    assert vocabulary.isthing is None
    assert vocabulary.colors[0] == (1, 2, 3) != vocabulary.colors[1]


def test_hash_depends_on_the_input_of_a_model(tmp_path: Path) -> None:
    hash_of = {words: Vocabulary.load(list(words)).hash for words in [("a", "b"), ("b", "a")]}
    assert hash_of["a", "b"] != hash_of["b", "a"]
    assert Vocabulary.load("a, b").hash == hash_of["a", "b"]
    assert Vocabulary.load(["a, b"]).hash not in hash_of.values()
    coloured = write(tmp_path, {"classes": [{"name": "a", "color": [9, 9, 9]}, "b"]})
    assert Vocabulary.load(coloured).hash == hash_of["a", "b"]


def test_hash_is_the_same_in_another_process() -> None:
    code = "from segcore.vocabulary import Vocabulary as V; print(V.load('ade150').hash, end='')"
    printed = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert printed.stdout == Vocabulary.load("ade150").hash


def test_shared_prompts_get_a_warning_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    Vocabulary.load("ade847")
    assert "9 prompts stand for several classes" in caplog.text
    caplog.clear()
    Vocabulary.load("ade150")
    assert not caplog.text


def test_colors_are_distinct_and_fixed() -> None:
    colors = distinct_colors(2000)
    assert len(set(colors)) == 2000
    assert colors[:10] == distinct_colors(10)
    many = distinct_colors(20_000)
    assert len(set(many)) == 20_000 and many[:2000] == colors
    assert not set(distinct_colors(50, taken=colors[:50])) & set(colors[:50])


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("ade20k_15", "'ade20k_150'"),
        ("datasets/ade151.json", "'ade150'"),
        ("/mine/ade150.json", "no file '/mine/ade150.json'"),
        ("ade20k_150.json", "no file 'ade20k_150.json'"),
        (Path("nowhere.json"), "no file 'nowhere.json'"),
        ("", "class 1 is empty"),
        ("sky, , tree", "class 2 is empty"),
        ("sky, tree,", "class 3 is empty"),
        ([], "no classes"),
        (["\u200b"], "class 1 is empty"),
        (["&nbsp;"], "class 1 is empty"),
        ("sky, tree, Sky", "classes 1 and 3 are both named 'Sky'"),
        (["caf\u00e9", "cafe\u0301"], "classes 1 and 2"),
        (["rock &amp; sand", "rock & sand"], "classes 1 and 2"),
        (["big  dog", "big dog"], "classes 1 and 2"),
        (["sky", "tr\x07ee"], "class 2, 'tr\\x07ee', holds a control character"),
        (["two\nlines"], "control character"),
        (["evil \u202etext"], "control character"),
        (["a" * 301], "at most 300 characters"),
        ("sky, a <|endoftext|> b", "marker <|endoftext|>"),
        (["&lt;|STARTOFTEXT|&gt;"], "marker <|startoftext|>"),
        (["<start_of_text>"], "marker <start_of_text>"),
        (["sky", 3], "class 2 needs to be a string"),
    ],
)
def test_faults_are_one_error_message(source: object, says: str) -> None:
    with pytest.raises(UserError) as caught:
        Vocabulary.load(source)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ('["sky", ', "not valid JSON (line 1)"),
        ("[" * 100_000, "nested too deep"),
        (f"[{'7' * 5000}]", "a number of too many digits"),
        ("{}", "no classes"),
        ('"sky"', "no classes"),
        (
            '{"classes": [{"title": "sky"}]}',
            "class 1 needs to be a string or an object with a name",
        ),
        ('{"classes": [{"name": "sky", "color": [0, 0, 256]}]}', "colour of 'sky'"),
        ('{"classes": [{"name": "sky", "synonyms": "blue"}]}', "synonyms of 'sky'"),
        ('{"classes": [{"name": "sky", "seen": true}, "tree"]}', "'seen' needs to be"),
        ('{"ignore_label": "no", "classes": ["sky"]}', "'ignore_label' needs to be a whole number"),
        ('{"ignore_label": true, "classes": ["sky"]}', "'ignore_label' needs to be a whole number"),
        ('{"ignore_label": 1.5, "classes": ["sky"]}', "'ignore_label' needs to be a whole number"),
        ('{"ignore_label": -1, "classes": ["sky"]}', "'ignore_label' needs to be a whole number"),
        (f'{{"ignore_label": {"9" * 4000}, "classes": ["sky"]}}', "of at most 31 bits"),
        ('{"ignore_label": 0, "classes": ["sky"]}', "'ignore_label' 0 is the id of a class"),
        ('{"ignore_label": 1, "classes": ["sky", "sea"]}', "a number from 2 on"),
        ('{"classes": ["grass"], "name": "\\ud800"}', "the vocabulary, '\\ud800', holds a control"),
        ('{"classes": ["grass"], "name": "a\\u001b[2J"}', r"'a\x1b[2J', holds a control"),
        ('{"classes": ["grass"], "name": 3}', "the vocabulary needs a text"),
        ('{"classes": ["grass"], "templates": ["a {} \\ud800"]}', "holds a control character"),
        (
            '{"classes": ["a"], "background": {"words": ["b"], "name": "\\u001b"}}',
            "the background, '\\x1b', holds a control character",
        ),
        (f'{{"classes": [{{"name": "a", "dataset_id": {"[" * 200}{"]" * 200}}}]}}', "too deep"),
        ('["\\ud800"]', "class 1"),
    ],
)
def test_faults_of_files_name_the_file(tmp_path: Path, content: str, says: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(UserError) as caught:
        Vocabulary.load(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)


def test_other_encodings_and_huge_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes('["stra\u00dfe"]'.encode("latin-1"))
    with pytest.raises(UserError, match="UTF-8"):
        Vocabulary.load(path)
    path.write_bytes(b'\xef\xbb\xbf["sky"]')
    assert Vocabulary.load(path).names == ("sky",)
    with path.open("wb") as file:
        file.truncate(17 * 2**20)
    with pytest.raises(UserError, match="16 MiB"):
        Vocabulary.load(path)
    with pytest.raises(UserError, match="not a JSON file"):
        Vocabulary.from_file(tmp_path)


@pytest.mark.parametrize(
    "line",
    ["labels.txt", "words.csv", "a/b.txt", "my labels.txt", "sky, labels.txt", "~/my words",
     "./my words, sky", "/home/me/my words", "C:\\my words\\a", "labels.yaml", "list.JSON"],
)  # fmt: skip
def test_a_file_that_is_not_there_is_no_class(line: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no file"):
        Vocabulary.load(line)


@pytest.mark.parametrize("line", ["St. Bernard, U.S. flag", "wood/metal wall, sky", "a.m., p.m."])
def test_class_names_with_points_and_slashes(line: str) -> None:
    assert ", ".join(Vocabulary.load(line).names) == line


def test_text_files_have_one_class_per_line(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / "names.txt"
    path.write_bytes(b"\xef\xbb\xbf# of the garden\r\nsky\r\n\r\n  sofa, couch \nleft,right\r")
    vocabulary = Vocabulary.load("~/names.txt")
    assert vocabulary == Vocabulary.load(path)
    assert vocabulary.name == "names" and vocabulary.names == ("sky", "sofa, couch", "left,right")
    assert vocabulary.synonyms == ((), ("couch",), ())
    path.write_text("sky\ttree\n")
    with pytest.raises(UserError, match="control character"):
        Vocabulary.load(path)
    path.write_text("\n# nothing\n")
    with pytest.raises(UserError, match=r"names\.txt holds no classes"):
        Vocabulary.load(path)
    path.write_text("sky\ntree", encoding="utf-16")
    with pytest.raises(UserError, match=r"names\.txt is UTF-16 text: save it as UTF-8"):
        Vocabulary.load(path)
    for name in ("names.csv", "names.yaml"):
        (tmp_path / name).write_text("sky,tree")
        with pytest.raises(UserError, match=f"{name} is no vocabulary"):
            Vocabulary.load(str(tmp_path / name))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("sky; tree", "'sky; tree' is one class: commas separate classes, not ;"),
        ("sky|tree, sea", "'sky|tree' is one class"),
        ("sky\uff0ctree", "is one class"),
        ("sky\u3001tree", "is one class"),
        ("a dog and a cat on the grass", "looks like a sentence"),
        ("Where is my dog?", "looks like a sentence"),
    ],
)
def test_likely_typing_errors_get_a_warning(line: str, says: str, caplog) -> None:
    Vocabulary.load(line)
    assert says in caplog.text


def test_usual_lines_get_none(caplog) -> None:
    for line in ("sky", "my old brown dog", "sky, a very large dog with a blue collar, tree"):
        Vocabulary.load(line)
    assert not caplog.text
    for line in ("sky\ttree", "sky\ntree"):
        with pytest.raises(UserError, match="holds a tab or a line break: separate classes by"):
            Vocabulary.load(line)


@pytest.mark.parametrize("name", registered_names())
def test_a_written_vocabulary_is_the_same_again(name: str, tmp_path: Path) -> None:
    vocabulary = Vocabulary.registered(name)
    path = write(tmp_path, vocabulary.to_table())
    assert Vocabulary.from_file(path) == vocabulary


def test_everything_that_is_set_is_written(tmp_path: Path) -> None:
    table = {
        "name": "pets",
        "ignore_label": 9,
        "templates": ["a photo of a {}.", "a drawing of a {}."],
        "background": {"words": ["sky", "sea, ocean"], "name": "rest", "color": [1, 2, 3]},
        "classes": [
            {"name": "cat", "prompt": "a cat", "synonyms": ["kitten"], "color": [9, 9, 9],
             "seen": True, "isthing": True, "dataset_id": [1, 2, 3]},
            {"name": "dog", "seen": False, "isthing": False},
        ],
    }  # fmt: skip
    vocabulary = Vocabulary.from_file(write(tmp_path, table))
    again = Vocabulary.from_file(write(tmp_path, vocabulary.to_table()))
    assert again == vocabulary
    assert again.hash == vocabulary.hash and again.colored == (True, False, False, False)
    assert again.background.first == 2 and again.ignore_label == 9
    words = Vocabulary.load("sky, tree")
    assert replace(Vocabulary.from_file(write(tmp_path, words.to_table())), name="words") == words


def test_a_text_is_cleaned_once(monkeypatch) -> None:
    calls = []
    fix_text = vocabulary_checks.ftfy.fix_text
    monkeypatch.setattr(
        vocabulary_checks.ftfy, "fix_text", lambda text: calls.append(text) or fix_text(text)
    )
    clean.cache_clear()
    names = [f"caf\u00e9 {number}" for number in range(1000)]
    for _ in range(2):
        Vocabulary.load(names)
    assert sorted(calls) == sorted([*names, "words"])


def test_more_classes_than_16_bits_hold() -> None:
    assert Vocabulary.load([f"word {number}" for number in range(300)]).ignore_label == 65535
    assert vocabulary_checks.checked_ignore_label({}, 65_536, "it") is None


def test_label_maps_know_the_background_as_one_class(tmp_path: Path) -> None:
    background = {"words": ["sky", "sea"], "name": "rest", "color": [1, 2, 3]}
    vocabulary = Vocabulary.load(write(tmp_path, {"classes": ["a"], "background": background}))
    assert vocabulary.names == ("a", "sky", "sea")
    assert vocabulary.label_names == ("a", "rest")
    assert vocabulary.label_colors == (vocabulary.colors[0], (1, 2, 3))
    plain = Vocabulary.load("sky, sea")
    assert (plain.label_names, plain.label_colors) == (plain.names, plain.colors)
