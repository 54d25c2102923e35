"""The content of Scenes: classes, those held out, random numbers, shapes, textures and grounds."""

import itertools

import numpy as np
import pytest

from segcore.scenes import CATALOGUES, SCENES_1K, SCENES_60, held_out
from segcore.scenes.draws import Draws
from segcore.scenes.grounds import GROUNDS, Noise
from segcore.scenes.shapes import SHAPES
from segcore.scenes.textures import COLOURS, TEXTURES
from segcore.scenes.vocabulary import dumps, vocabulary_path
from segcore.vocabulary import Vocabulary


class TestCatalogue:
    @pytest.mark.parametrize(("catalogue", "number"), [(SCENES_60, 60), (SCENES_1K, 1120)])
    def test_classes_are_every_combination_and_the_grounds(self, catalogue, number):
        names = [entry.name for entry in catalogue.classes]
        products = itertools.product(catalogue.colours, catalogue.textures, catalogue.shapes)
        assert names == [" ".join(parts) for parts in products] + list(catalogue.grounds)
        assert [entry.id for entry in catalogue.classes] == list(range(number))

    @pytest.mark.parametrize(("catalogue", "number"), [(SCENES_60, 14), (SCENES_1K, 250)])
    def test_every_pair_of_attributes_of_an_unseen_combination_is_seen(self, catalogue, number):
        assert len(catalogue.unseen_objects) == number
        assert all(entry.seen for entry in catalogue.classes if not entry.is_object)
        for first, second in itertools.combinations(("colour", "texture", "shape"), 2):
            seen = {(getattr(e, first), getattr(e, second)) for e in catalogue.seen_objects}
            assert seen == {(getattr(e, first), getattr(e, second)) for e in catalogue.objects}

    @pytest.mark.parametrize("catalogue", CATALOGUES.values(), ids=CATALOGUES)
    def test_unseen_combinations_are_spread_over_the_attributes(self, catalogue):
        for attribute in ("colour", "texture", "shape"):
            names = [getattr(entry, attribute) for entry in catalogue.unseen_objects]
            counts = [names.count(name) for name in getattr(catalogue, f"{attribute}s")]
            assert max(counts) - min(counts) <= max(1, 0.2 * max(counts))

    @pytest.mark.parametrize("catalogue", CATALOGUES.values(), ids=CATALOGUES)
    def test_vocabulary_file_is_the_catalogues(self, catalogue):
        assert vocabulary_path(catalogue).read_text("utf-8") == dumps(catalogue)

    @pytest.mark.parametrize("catalogue", CATALOGUES.values(), ids=CATALOGUES)
    def test_vocabulary_loads_by_name(self, catalogue):
        vocabulary = Vocabulary.load(catalogue.name.replace("-", "_"))
        assert vocabulary.names == tuple(entry.name for entry in catalogue.classes)
        assert vocabulary.seen == tuple(entry.seen for entry in catalogue.classes)
        assert len(set(vocabulary.colors)) == len(vocabulary)

    @pytest.mark.parametrize("catalogue", CATALOGUES.values(), ids=CATALOGUES)
    def test_the_catalogue_has_known_attributes(self, catalogue):
        assert set(catalogue.colours) <= set(COLOURS)
        assert set(catalogue.textures) <= set(TEXTURES)
        assert set(catalogue.shapes) <= set(SHAPES)
        assert set(catalogue.grounds) <= set(GROUNDS)


class TestHeldOut:
    def test_counts(self):
        lines = held_out.summarize(SCENES_1K).splitlines()
        assert lines[0] == (
            "scenes-1k: 1120 classes, 40 grounds and 1080 objects, 250 of them (23.1%) unseen"
        )
        assert "  same colour and texture: 90 groups of 12, 2 to 3 of each unseen" in lines

    def test_table_names_every_unseen_class(self):
        _, _, *rows = held_out.table(SCENES_60).splitlines()
        cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
        named = {
            f"{colour} {texture} {shape}"
            for texture, *colours in cells
            for shape, names in zip(SCENES_60.shapes, colours, strict=True)
            for colour in names.split(", ")
        }
        assert named == {entry.name for entry in SCENES_60.unseen_objects}

    def test_the_page_shows_both_tables(self, repository):
        page = (repository / "docs/explanation/scenes.md").read_text("utf-8")
        assert all(held_out.table(catalogue) in page for catalogue in CATALOGUES.values())


class TestDraws:
    def test_a_stream_depends_on_seed_name_and_index_alone(self):
        def numbers(*key):
            return Draws(*key).bytes(64).tolist()

        assert numbers(0, "a", 7) == numbers(0, "a", 7)
        others = [numbers(1, "a", 7), numbers(0, "b", 7), numbers(0, "a", 8)]
        assert numbers(0, "a", 7) not in others

    def test_ranges(self):
        draws = Draws(0, "ranges", 0)
        values = [draws.uniform(-2, 3) for _ in range(2000)]
        assert -2 <= min(values) < -1.9 and 2.9 < max(values) < 3
        assert {draws.integer(3) for _ in range(100)} == {0, 1, 2}
        assert sorted(draws.order(50)) == list(range(50))

    def test_grain_has_mean_zero_and_variance_one(self):
        grain = Draws(0, "grain", 0).grain(200, 200)
        assert abs(grain.mean()) < 0.02
        assert abs(grain.std() - 1) < 0.02


class TestPatterns:
    @pytest.mark.parametrize("shape", SHAPES)
    def test_shapes_have_the_area_of_the_unit_disc(self, shape):
        axis = np.linspace(-2, 2, 801, dtype=np.float32)
        inside = SHAPES[shape].level(*np.meshgrid(axis, axis)) <= 1
        assert inside.mean() * 16 == pytest.approx(np.pi, rel=0.01)

    @pytest.mark.parametrize("shape", SHAPES)
    def test_outlines_stay_near(self, shape):
        """The shadow, larger by an eighth and shifted, is within 2.2, the limit of rendering."""
        axis = np.linspace(-3, 3, 601, dtype=np.float32)
        u, v = np.meshgrid(axis, axis)
        shadow = SHAPES[shape].level(u - 0.22, v - 0.26) <= 1.15
        assert np.hypot(u, v)[shadow].max() < 2.2

    def test_shapes_differ(self):
        axis = np.linspace(-2, 2, 201, dtype=np.float32)
        inside = [shape.level(*np.meshgrid(axis, axis)) <= 1 for shape in SHAPES.values()]
        for one, other in itertools.combinations(inside, 2):
            assert (one & other).sum() / (one | other).sum() < 0.85

    def test_textures_differ_in_every_period(self):
        axis = np.linspace(-6, 6, 1000, dtype=np.float32)
        fractions = {
            name: texture.pattern(*np.meshgrid(axis, axis)).mean()
            for name, texture in TEXTURES.items()
        }
        assert fractions.pop("plain") == 0
        assert fractions.pop("dotted") == pytest.approx(np.pi * 0.35**2, rel=0.02)
        assert all(0.45 < weight < 0.55 for weight in fractions.values())

    @pytest.mark.parametrize("ground", GROUNDS)
    def test_grounds_lie_between_their_two_colours(self, ground):
        grid = (np.arange(96, dtype=np.float32) + 0.5) / 96
        noise = Noise(Draws(0, ground, 0).lattice(64, 64))
        weight = GROUNDS[ground].pattern(grid[None, :], grid[:, None], noise)
        assert 0 <= weight.min() < 0.3 and 0.7 < weight.max() <= 1.0001
