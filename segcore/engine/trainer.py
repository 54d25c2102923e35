"""Detectron2's trainer on CPUs and GPUs, with open-vocabulary evaluation and exact resuming."""

import difflib
import logging
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import (
    MetadataCatalog,
    build_detection_test_loader,
    get_detection_dataset_dicts,
)
from detectron2.engine import DefaultTrainer, HookBase, TrainerBase, create_ddp_model
from detectron2.evaluation import DatasetEvaluator, print_csv_format
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils import comm
from detectron2.utils.events import EventWriter, has_event_storage
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from segcore.checkpoint import Checkpointer
from segcore.datasets import check_registered
from segcore.datasets.class_names import check_class_names
from segcore.errors import UserError
from segcore.evaluation import StatefulEvaluator, build_evaluator
from segcore.evaluation.builder import inference_folder
from segcore.evaluation.resuming import ResumableEvaluation, config_hash, weights_hash
from segcore.mappers import build_mapper
from segcore.vocabulary import Vocabulary

from .batch_norm import synchronize_on_cpu
from .batches import build_train_loader
from .categories import CategoryScores
from .collective import collective, collective_inference
from .evaluated_images import with_drawings
from .optimizer import build_optimizer
from .progress import TrainingProgress, print_results
from .schedule import build_lr_scheduler
from .selecting import StoppedEarly, select_weights
from .sharding import Shard
from .step import AutocastTrainer, autocast_dtype
from .trackers import NONE, check_tracker
from .tracking import ImageDropper, TrackerWriter
from .tta import with_tta

logger = logging.getLogger(__name__)

TASKS = frozenset(("semantic", "panoptic", "instance"))


class Trainer(DefaultTrainer):
    """A ``DefaultTrainer`` with this project's loaders, optimizer, evaluators and checkpoints.

    Args:
        cfg: from :func:`segcore.config.load_config`. ``SOLVER.IMS_PER_BATCH``, the learning rate
            and the schedule are scaled where ``SOLVER.REFERENCE_WORLD_SIZE`` differs from the
            number of processes.
    """

    def __init__(self, cfg: CfgNode) -> None:
        # DefaultTrainer's constructor wraps every model for one GPU and scales losses for CUDA, so
        # only its base class is initialised.
        TrainerBase.__init__(self)
        check_tracker(cfg.TRACKER.NAME)
        cfg = _scale(cfg)
        model = self.build_model(cfg)
        _check_train_vocabulary(cfg, model)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        device = torch.device(cfg.MODEL.DEVICE)
        dtype = autocast_dtype(device) if cfg.SOLVER.AMP.ENABLED else None

        self._trainer = AutocastTrainer(
            parallel(model, device),
            data_loader,
            optimizer,
            dtype=dtype,
            # A random seed is drawn once; checkpoints keep it.
            seed=cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed(),
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = build_checkpointer(cfg, model, trainer=weakref.proxy(self))
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.stopped_early = False
        self._tracker: TrackerWriter | None = None  # in the main process, if any
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume: bool = True) -> None:
        """Resume from the last checkpoint of ``OUTPUT_DIR``, or start from ``MODEL.WEIGHTS``.

        Without either, a model with ``load_pretrained`` starts from pre-trained parts.
        """
        if comm.is_main_process():
            self.checkpointer.remove_partial_files()
        super().resume_or_load(resume)
        if len(set(comm.all_gather(self.start_iter))) > 1:
            raise UserError(
                f"not every process found the last checkpoint in OUTPUT_DIR {self.cfg.OUTPUT_DIR}: "
                "all machines must share this folder"
            )
        continued = resume and self.checkpointer.has_checkpoint()
        start = getattr(self.checkpointer.model, "load_pretrained", None)
        if start is not None and not continued and not self.cfg.MODEL.WEIGHTS:
            _main_process_first(start)

    def build_hooks(self) -> list[HookBase]:
        """Return Detectron2's hooks, those that ``SOLVER`` asks for in :mod:`.selecting`, and
        before them :class:`CategoryScores` for RankSeg models."""
        model = self.checkpointer.model
        hooks = select_weights(
            self.cfg, model, super().build_hooks(), self._evaluate, self.checkpointer.save_weights
        )
        if hasattr(model, "category_predictions") and self.cfg.MODEL.RANKSEG.FLAG:
            hooks.insert(0, CategoryScores(model, self.cfg.MODEL.RANKSEG.TOPK))
        return [TrainingProgress(), *hooks]

    def build_writers(self) -> list[EventWriter]:
        """Return Detectron2's writers and that of ``TRACKER.NAME``; the main process has them."""
        writers = super().build_writers()
        if self.cfg.TRACKER.NAME != NONE:
            self._tracker = TrackerWriter(self.cfg)
            writers.insert(0, self._tracker)  # TensorBoard's writer drops the images
        return [*writers, ImageDropper()]

    def before_train(self) -> None:
        super().before_train()
        self._trainer.begin(self.start_iter)

    def train(self) -> dict[str, Any] | None:
        """Train to ``SOLVER.MAX_ITER``, or to where ``SOLVER.EARLY_STOP`` ends it; returns the
        results of the last evaluation in the main process."""
        if self._tracker is not None:
            self._tracker.begin(resumed=self.start_iter > 0)
        try:
            return super().train()
        except StoppedEarly:
            logger.info("The scores no longer improve: stopped after iteration %d", self.iter)
            if comm.is_main_process():
                self.checkpointer.save("model_final", iteration=self.iter)
            return getattr(self, "_last_eval_results", None)

    def _evaluate(self, folder: str) -> dict[str, Any] | None:
        """Evaluate the model; the files go to this folder of ``OUTPUT_DIR``."""
        cfg = self.cfg.clone()
        cfg.defrost()
        cfg.OUTPUT_DIR = str(Path(cfg.OUTPUT_DIR, folder))
        if folder:
            cfg.TRACKER.IMAGES = 0  # those of the model itself have the same names
        results = self.test(cfg, self.model)
        if not folder:
            self._last_eval_results = results
        return results

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """Return the model of ``MODEL.META_ARCHITECTURE`` on ``MODEL.DEVICE``."""
        name = cfg.MODEL.META_ARCHITECTURE
        if name not in META_ARCH_REGISTRY:
            known = [name for name, _ in META_ARCH_REGISTRY]
            raise UserError(
                f"MODEL.META_ARCHITECTURE is {name!r}; there are {_nearest(name, known)}"
            )
        model = super().build_model(cfg)
        if comm.get_world_size() > 1 and torch.device(cfg.MODEL.DEVICE).type == "cpu":
            synchronize_on_cpu(model)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """See :func:`segcore.engine.build_optimizer`."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Any:
        """Return the schedule of the learning rates."""
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Iterable:
        """Return endless batches of ``DATASETS.TRAIN``, mapped by ``INPUT.DATASET_MAPPER_NAME``."""
        if not cfg.DATASETS.TRAIN:
            raise UserError("DATASETS.TRAIN is empty: name the data sets to train on")
        check_registered(cfg.DATASETS.TRAIN)
        return build_train_loader(cfg, build_mapper(cfg, is_train=True))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Iterable:
        """Return a loader of this process's :class:`Shard` of a data set's images or videos."""
        check_registered([dataset_name])
        items = get_detection_dataset_dicts(dataset_name, filter_empty=False)
        return build_detection_test_loader(
            dataset=items,
            mapper=build_mapper(cfg, is_train=False),
            sampler=Shard(items),
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """Return the evaluator that the data set's metadata asks for."""
        return build_evaluator(cfg, dataset_name)

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: list[DatasetEvaluator] | None = None,
    ) -> dict[str, Any]:
        """Evaluate on every data set of ``DATASETS.TEST``.

        An open-vocabulary model gets the vocabulary of the data set, unless
        ``MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON`` names another. The model skips tasks that the
        evaluator does not score (``tasks``), and returns labels without scores where they suffice
        (``labels_suffice``).

        Outside of a training an interrupted evaluation resumes, and ``TEST.AUG`` may ask for
        test-time augmentation.

        Returns:
            {data set: results}; with a single data set its results alone.
        """
        if isinstance(model, DistributedDataParallel):
            model = model.module
        _broadcast_buffers(model)
        resumable = cfg.TEST.SAVE_SECONDS > 0 and not has_event_storage()
        weights = weights_hash(model) if resumable or cfg.TEST.WRITE_SCORES else ""
        results, resumables = OrderedDict(), []
        for index, name in enumerate(cfg.DATASETS.TEST):
            data_loader = cls.build_test_loader(cfg, name)
            evaluator = evaluators[index] if evaluators else cls.build_evaluator(cfg, name)
            if cfg.TEST.WRITE_SCORES:
                evaluator.weights = weights  # the scores name the checkpoint that they are of
            from_dataset = not cfg.MODEL.SEM_SEG_HEAD.get("TEST_CLASS_JSON")
            if hasattr(model, "set_vocabulary") and from_dataset:
                model.set_vocabulary(_vocabulary_of(name))
            elif hasattr(model, "set_vocabulary"):
                check_class_names(model.vocabulary, name, "MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON")
            drawn = with_drawings(cfg, name, model, evaluator)
            with _needed_outputs_only(model, evaluator):
                if resumable and isinstance(evaluator, StatefulEvaluator):
                    evaluator = _resume(cfg, name, weights, data_loader.sampler, evaluator)
                    drawn = evaluator
                    resumables.append(evaluator)
                results[name] = collective_inference(
                    with_tta(cfg, model), data_loader, drawn, f"evaluating {name}"
                )
            if comm.is_main_process():
                logger.info("Evaluation on %s:", name)
                print_csv_format(results[name])
                print_results(name, results[name])
        for evaluation in resumables:
            evaluation.finish()
        return next(iter(results.values())) if len(results) == 1 else results


def build_checkpointer(cfg: CfgNode, model: nn.Module, **checkpointables: Any) -> Checkpointer:
    """Return a checkpointer of ``OUTPUT_DIR``, strict unless ``MODEL.ALLOW_PARTIAL_WEIGHTS``."""
    return Checkpointer(
        model, cfg.OUTPUT_DIR, allow_partial=cfg.MODEL.ALLOW_PARTIAL_WEIGHTS, **checkpointables
    )


def parallel(model: nn.Module, device: torch.device) -> nn.Module:
    """Return the model for distributed training; in a single process the model itself."""
    on_cpu = {"device_ids": None} if device.type == "cpu" else {}
    with warnings.catch_warnings():
        # Its new name is unknown to older releases of PyTorch.
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")
        return create_ddp_model(model, broadcast_buffers=False, **on_cpu)


def _broadcast_buffers(model: nn.Module) -> None:
    """Broadcast the main process's buffers (batch norm statistics), which checkpoints hold."""
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            distributed.broadcast(buffer, src=0)


def _scale(cfg: CfgNode) -> CfgNode:
    """Scale batch size, learning rate and schedule to the number of processes, as Detectron2."""
    batch, reference = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.REFERENCE_WORLD_SIZE
    if reference and batch % reference:
        raise UserError(
            f"SOLVER.IMS_PER_BATCH is {batch}, no multiple of SOLVER.REFERENCE_WORLD_SIZE "
            f"{reference}, the number of processes of the original run; set that to 0 to use the "
            "numbers of the config unchanged"
        )
    return DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())


def _main_process_first(call: Callable[[], None]) -> None:
    """Call in every process, in the main process first: it may fill a cache for the others."""
    for first in (True, False):
        with collective():
            if comm.is_main_process() == first:
                call()


@contextmanager
def _needed_outputs_only(model: nn.Module, evaluator: DatasetEvaluator) -> Iterator[None]:
    """Make the model skip what the evaluator does not read: tasks, scores of all classes."""
    changes, tasks = {}, getattr(evaluator, "tasks", None)
    if hasattr(model, "tasks") and tasks is not None:
        changes["tasks"] = replace(model.tasks, **dict.fromkeys(TASKS.difference(tasks), False))
    if hasattr(model, "published_output"):
        changes["published_output"] = False  # evaluators read the lists of dicts
    if hasattr(model, "prediction_kind") and getattr(evaluator, "labels_suffice", False):
        changes["prediction_kind"] = replace(model.prediction_kind, output="labels")
    kept = {name: getattr(model, name) for name in changes}
    try:
        for name, value in changes.items():
            setattr(model, name, value)
        yield
    finally:
        for name, value in kept.items():
            setattr(model, name, value)


def _resume(
    cfg: CfgNode, name: str, weights: str, shard: Shard, evaluator: StatefulEvaluator
) -> ResumableEvaluation:
    """Return the evaluation of a data set; it skips items that an interrupted one has done."""
    vocabulary = cfg.MODEL.SEM_SEG_HEAD.get("TEST_CLASS_JSON")
    vocabulary = vocabulary or MetadataCatalog.get(name).get("vocabulary")
    fingerprint = {
        "list of files": shard.digest,
        "model": weights,
        "config": config_hash(cfg),
        "vocabulary": Vocabulary.load(vocabulary).hash if vocabulary else "",
    }
    folder = inference_folder(cfg, name)
    evaluation = ResumableEvaluation(evaluator, folder, fingerprint, cfg.TEST.SAVE_SECONDS)
    shard.done = len(shard.indices) if evaluation.done is None else evaluation.done
    return evaluation


def _check_train_vocabulary(cfg: CfgNode, model: nn.Module) -> None:
    """Check that the class names of the training data are the model's training vocabulary."""
    vocabulary = getattr(model, "train_vocabulary", None)
    check_registered(cfg.DATASETS.TRAIN)
    for name in cfg.DATASETS.TRAIN if vocabulary is not None else ():
        check_class_names(vocabulary, name, "MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON")


def _vocabulary_of(dataset_name: str) -> Any:
    metadata = MetadataCatalog.get(dataset_name)
    vocabulary = metadata.get("vocabulary") or metadata.get("stuff_classes")
    if not vocabulary:
        raise UserError(
            f"the data set {dataset_name} has no class names: set "
            "MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON"
        )
    return vocabulary


def _nearest(name: str, known: Iterable[str]) -> str:
    known = sorted(known)
    return ", ".join(difflib.get_close_matches(name, known, n=5, cutoff=0.3) or known[:5])
