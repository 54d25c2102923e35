"""Records of loaders: which, in which order, and how they are mapped."""

import pickle
from itertools import islice

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import (
    DatasetCatalog,
    DatasetFromList,
    MapDataset,
    MetadataCatalog,
    build_batch_data_loader,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.common import AspectRatioGroupedDataset, ToIterableDataset
from detectron2.data.samplers import InferenceSampler, TrainingSampler

OBJECT, CROWD = {"iscrowd": 0, "category_id": 0}, {"iscrowd": 1, "category_id": 0}


@pytest.fixture
def register(request):
    """Return a function that registers records and metadata until the test ends."""
    names = []

    def function(records, **facts):
        names.append(f"loaders/{request.node.name}/{len(names)}")
        DatasetCatalog.register(names[-1], lambda: records)
        MetadataCatalog.get(names[-1]).set(**facts)
        return names[-1]

    yield function
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def image(name, **others):
    return {"file_name": str(name), "width": 4, "height": 2, **others}


def config(*names, **loader):
    cfg = get_cfg()
    cfg.DATALOADER.NUM_WORKERS, cfg.DATASETS.TRAIN, cfg.SOLVER.IMS_PER_BATCH = 0, names, 1
    for key, value in loader.items():
        cfg.DATALOADER[key] = value
    return cfg


def order(cfg, number):
    loader = build_detection_train_loader(cfg, mapper=lambda record: record)
    return "".join(batch[0]["file_name"] for batch in islice(loader, number))


RECORDS = [
    image("a", annotations=[OBJECT]),
    image("b", annotations=[]),
    image("c", annotations=[CROWD]),
]


class TestFilter:
    def test_test_loader_keeps_images_without_objects(self, register):
        loader = build_detection_test_loader(config(), register(RECORDS), mapper=dict)
        assert [batch[0]["file_name"] for batch in loader] == ["a", "b", "c"]

    @pytest.mark.parametrize("filters, expected", [(True, {"a"}), (False, {"a", "b", "c"})])
    def test_train_loader(self, register, filters, expected):
        cfg = config(register(RECORDS), FILTER_EMPTY_ANNOTATIONS=filters)
        assert set(order(cfg, 6)) == expected


class TestThingClasses:
    def test_of_one_dataset_alone(self, register):
        """The comparison is left out."""
        names = [register(RECORDS, thing_classes=["x"]), register(RECORDS)]
        assert len(get_detection_dataset_dicts(names)) == 2

    def test_category_outside(self, register):
        name = register([image("a", annotations=[{"category_id": 3}])], thing_classes=["x", "y"])
        with pytest.raises(AssertionError, match="category_id"):
            get_detection_dataset_dicts(name)
        assert len(get_detection_dataset_dicts(name, check_consistency=False)) == 1


class TestOrder:
    @pytest.mark.parametrize("seed", [3, -1])
    def test_comes_from_the_seed_alone(self, register, seed):
        """The default seed, -1, gives one order, too; numpy's generator is not used."""
        cfg = config(register([image(i) for i in range(5)]))
        cfg.SEED = seed
        np.random.seed(0)
        generator = torch.Generator().manual_seed(seed)
        rounds = [torch.randperm(5, generator=generator).tolist() for _ in range(2)]
        assert order(cfg, 10) == "".join(map(str, rounds[0] + rounds[1]))
        assert np.random.randint(1000) == 684


class TestSamplers:
    def test_inference_shards(self):
        shards = [InferenceSampler._get_local_indices(11, 4, rank) for rank in range(4)]
        assert [list(shard) for shard in shards] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9, 10]]

    def test_only_samplers_are_taken(self):
        arguments = {"mapper": None, "total_batch_size": 1}
        with pytest.raises(AssertionError):
            build_detection_train_loader([image(0)], sampler=[0], **arguments)
        with pytest.raises(AssertionError):
            ToIterableDataset([1, 2], [0, 1])
        with pytest.raises(ValueError):
            build_batch_data_loader(
                [1], TrainingSampler(1), total_batch_size=1, single_gpu_batch_size=1
            )

    def test_a_stream_takes_none(self):
        class Stream(torch.utils.data.IterableDataset):
            def __iter__(self):
                return iter([image(0)])

        for build, others in (
            (build_detection_train_loader, {"total_batch_size": 1}),
            (build_detection_test_loader, {}),
        ):
            assert next(iter(build(Stream(), mapper=None, **others))) == [image(0)]
            with pytest.raises(AssertionError):
                build(Stream(), mapper=None, sampler=TrainingSampler(1), **others)


class TestDatasets:
    def test_negative_indices(self):
        dataset = DatasetFromList([10, 20, 30])
        assert (dataset[-1], dataset[-2], MapDataset(dataset, abs)[-1]) == (30, 20, 30)
        with pytest.raises(IndexError):
            dataset[3]

    def test_serialize_may_be_a_function(self):
        dataset = DatasetFromList([1, 2], serialize=lambda items: [10 * item for item in items])
        assert (len(dataset), dataset[1]) == (2, 20)
        with pytest.raises(TypeError):
            DatasetFromList([1, 2], serialize="pickle")

    def test_mapped_by_a_lambda_can_be_pickled(self):
        """As it has to be for workers that are started by spawn."""
        factor = 2
        dataset = MapDataset([1, 2, 3], lambda item: factor * item)
        assert pickle.loads(pickle.dumps(dataset))[1] == 4

    def test_no_item_that_can_be_used(self):
        with pytest.raises(ValueError):
            MapDataset([1], lambda item: None)[0]

    def test_rest_of_a_batch_waits(self):
        """The next iterator continues with the images of the incomplete batch."""
        batches = AspectRatioGroupedDataset([image(i) for i in range(3)], 2)
        names = [[record["file_name"] for record in b] for _ in range(2) for b in batches]
        assert names == [["0", "1"], ["2", "0"], ["1", "2"]]
