"""Command-line arguments, set-up, trainer and predictor with sensible defaults."""

import argparse
import importlib.util
import logging
import os
import sys
import weakref
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import detectron2.data.transforms as T
from detectron2._absent import absent_message
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.build import build_detection_test_loader, build_detection_train_loader
from detectron2.engine import hooks
from detectron2.engine.predictor_input import as_bgr
from detectron2.engine.train_loop import AMPTrainer, SimpleTrainer, TrainerBase
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.evaluation.testing import print_csv_format, verify_results
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, build_optimizer
from detectron2.utils import comm
from detectron2.utils.collect_env import collect_env_info
from detectron2.utils.env import seed_all_rng
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
)
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger


def create_ddp_model(model: nn.Module, *, fp16_compression: bool = False, **kwargs: Any) -> Any:
    """Wrap a model for several processes; one process keeps it as it is.

    Args:
        model: on this process's device.
        fp16_compression: whether gradients travel as half-precision numbers.
        **kwargs: of ``DistributedDataParallel``; ``device_ids`` is this process's GPU by default,
            and must be None for a model on the CPU.
    """
    if comm.get_world_size() == 1:
        return model
    kwargs.setdefault("device_ids", [comm.get_local_rank()])
    wrapped = DistributedDataParallel(model, **kwargs)
    if fp16_compression:
        from torch.distributed.algorithms.ddp_comm_hooks import default_hooks

        wrapped.register_comm_hook(state=None, hook=default_hooks.fp16_compress_hook)
    return wrapped


def _default_port() -> int:
    """Return a port that is likely different for every user of a machine."""
    user = os.getuid() if hasattr(os, "getuid") else 1
    return 2**15 + 2**14 + hash(user) % 2**14


def default_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """Return a parser with the flags of every training script."""
    program = sys.argv[0]
    parser = argparse.ArgumentParser(
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=epilog
        or f"""Examples:
  {program} --config-file cfg.yaml MODEL.WEIGHTS /path/to/weights.pth
  {program} --config-file cfg.yaml --num-gpus 8
  {program} --config-file cfg.yaml --num-machines 2 --machine-rank 0 --dist-url tcp://host:port
""",
    )
    parser.add_argument("--config-file", default="", metavar="FILE", help="the config, a yaml file")
    parser.add_argument(
        "--resume", action="store_true", help="go on from the last checkpoint in OUTPUT_DIR"
    )
    parser.add_argument("--eval-only", action="store_true", help="evaluate, do not train")
    parser.add_argument("--num-gpus", type=int, default=1, help="processes per machine")
    parser.add_argument("--num-machines", type=int, default=1, help="machines of this run")
    parser.add_argument("--machine-rank", type=int, default=0, help="index of this machine")
    parser.add_argument(
        "--dist-url",
        default=f"tcp://127.0.0.1:{_default_port()}",
        help="where the processes meet; 'auto' finds a free port on one machine",
    )
    parser.add_argument(
        "opts",
        nargs=argparse.REMAINDER,
        default=None,
        help="config keys and values in turn, after all flags: SOLVER.BASE_LR 0.001",
    )
    return parser


def default_setup(cfg: CfgNode, args: argparse.Namespace) -> None:
    """Make the output folder, log the environment and the config, seed all generators.

    Writes ``log.txt`` and ``config.yaml`` into OUTPUT_DIR.
    """
    output_dir, rank = cfg.OUTPUT_DIR, comm.get_rank()
    if output_dir and comm.is_main_process():
        PathManager.mkdirs(output_dir)
    setup_logger(output_dir, distributed_rank=rank, name="fvcore")
    logger = setup_logger(output_dir, distributed_rank=rank)
    logger.info("Process %d of %d", rank, comm.get_world_size())
    logger.info("Environment:\n%s", collect_env_info())
    logger.info("Command line: %s", args)
    if output_dir and comm.is_main_process():
        path = Path(output_dir) / "config.yaml"
        with PathManager.open(str(path), "w") as file:
            file.write(cfg.dump())
        logger.info("The config is in %s", path)
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + rank)
    if not getattr(args, "eval_only", False):
        torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    if cfg.FLOAT32_PRECISION and torch.cuda.is_available():
        torch.set_float32_matmul_precision(cfg.FLOAT32_PRECISION)
        torch.backends.cudnn.allow_tf32 = cfg.FLOAT32_PRECISION != "highest"


def default_writers(output_dir: str, max_iter: int | None = None) -> list[EventWriter]:
    """Writers to the log, to ``metrics.json``, and to TensorBoard where that is installed."""
    PathManager.mkdirs(output_dir)
    writers = [
        CommonMetricPrinter(max_iter),
        JSONWriter(str(Path(output_dir) / "metrics.json")),
    ]
    if importlib.util.find_spec("tensorboard") is None:
        logging.getLogger(__name__).info("No TensorBoard files: tensorboard is not installed")
        return writers
    return [*writers, TensorboardXWriter(output_dir)]


class DefaultPredictor:
    """Runs a model on single images.

    Builds the model of a config, loads MODEL.WEIGHTS, and prepares images as the test loader
    does. ``metadata`` is that of the first data set in DATASETS.TEST.
    """

    def __init__(self, cfg: CfgNode) -> None:
        self.cfg = cfg.clone()
        self.model = build_model(self.cfg).eval()
        if self.cfg.DATASETS.TEST:
            self.metadata = MetadataCatalog.get(self.cfg.DATASETS.TEST[0])
        DetectionCheckpointer(self.model).load(self.cfg.MODEL.WEIGHTS)
        size = self.cfg.INPUT.MIN_SIZE_TEST
        self.aug = T.ResizeShortestEdge([size, size], self.cfg.INPUT.MAX_SIZE_TEST)
        self.input_format = self.cfg.INPUT.FORMAT
        if self.input_format not in ("RGB", "BGR"):
            raise AssertionError(f"INPUT.FORMAT is RGB or BGR, not {self.input_format}")

    def __call__(self, original_image: np.ndarray) -> dict[str, Any]:
        """Run the model on one image.

        Args:
            original_image: (H, W, 3) uint8, BGR, independent of INPUT.FORMAT; grey images,
                alpha channels and floats as :func:`predictor_input.as_bgr` says.

        Returns:
            The model's output for it.

        Raises:
            ValueError: the array is no image of 8 bits.
        """
        original_image = as_bgr(original_image)
        height, width = original_image.shape[:2]
        image = original_image[:, :, ::-1] if self.input_format == "RGB" else original_image
        image = self.aug.get_transform(image).apply_image(image)
        tensor = torch.from_numpy(image.astype("float32").transpose(2, 0, 1))
        tensor = tensor.to(self.cfg.MODEL.DEVICE)
        with torch.no_grad():
            return self.model([{"image": tensor, "height": height, "width": width}])[0]


def _of_inner_trainer(name: str) -> property:
    return property(
        lambda self: getattr(self._trainer, name),
        lambda self, value: setattr(self._trainer, name, value),
    )


class DefaultTrainer(TrainerBase):
    """A trainer built from a config: model, optimizer, schedule, loader, hooks, checkpoints.

    Each part comes from a ``build_*`` method that a subclass may replace.
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        if not logging.getLogger("detectron2").isEnabledFor(logging.INFO):
            setup_logger()
        cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        data_loader = self.build_train_loader(cfg)
        model = create_ddp_model(model, broadcast_buffers=False)
        loop = AMPTrainer if cfg.SOLVER.AMP.ENABLED else SimpleTrainer
        self._trainer = loop(model, data_loader, optimizer)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        # A proxy, because the trainer holds the checkpointer.
        self.checkpointer = DetectionCheckpointer(
            model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self)
        )
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.cfg = cfg
        self.register_hooks(self.build_hooks())

    # Those of the inner trainer, to read and to set; the model is wrapped for several processes.
    model = _of_inner_trainer("model")
    optimizer = _of_inner_trainer("optimizer")
    data_loader = _of_inner_trainer("data_loader")

    def resume_or_load(self, resume: bool = True) -> None:
        """Load MODEL.WEIGHTS, or with ``resume`` the last checkpoint in OUTPUT_DIR if any.

        After resuming, training goes on with the iteration after the saved one.
        """
        self.checkpointer.resume_or_load(self.cfg.MODEL.WEIGHTS, resume=resume)
        if resume and self.checkpointer.has_checkpoint():
            self.start_iter = self.iter + 1

    def build_hooks(self) -> list[hooks.HookBase | None]:
        """Timer, schedule, None, checkpoints, evaluation, writers, in this order.

        The third stands for precise batch norm, which projects count when they insert by index;
        checkpoints and writers are there on the main process only.

        Raises:
            NotImplementedError: TEST.PRECISE_BN is switched on.
        """
        cfg = self.cfg
        if cfg.TEST.PRECISE_BN.ENABLED:
            raise NotImplementedError(absent_message("TEST.PRECISE_BN"))

        def evaluate() -> dict[str, Any]:
            self._last_eval_results = self.test(self.cfg, self.model)
            return self._last_eval_results

        built = [hooks.IterationTimer(), hooks.LRScheduler(), None]
        if comm.is_main_process():  # before the evaluation, which may fail
            saving = hooks.PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD)
            built.append(saving)
        built.append(hooks.EvalHook(cfg.TEST.EVAL_PERIOD, evaluate))
        if comm.is_main_process():
            built.append(hooks.PeriodicWriter(self.build_writers(), period=20))
        return built

    def build_writers(self) -> list[EventWriter]:
        """See :func:`default_writers`."""
        return default_writers(self.cfg.OUTPUT_DIR, self.max_iter)

    def train(self) -> dict[str, Any] | None:
        """Train to SOLVER.MAX_ITER; returns the last results where TEST.EXPECTED_RESULTS is set."""
        super().train(self.start_iter, self.max_iter)
        if not (self.cfg.TEST.EXPECTED_RESULTS and comm.is_main_process()):
            return None
        if not hasattr(self, "_last_eval_results"):
            raise AssertionError("TEST.EXPECTED_RESULTS is set, but nothing was evaluated")
        verify_results(self.cfg, self._last_eval_results)
        return self._last_eval_results

    def run_step(self) -> None:
        self._trainer.iter = self.iter
        self._trainer.run_step()

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._trainer.load_state_dict(state_dict["_trainer"])

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """See ``detectron2.modeling.build_model``."""
        model = build_model(cfg)
        logging.getLogger(__name__).info("Model:\n%s", model)
        return model

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """See ``detectron2.solver.build_optimizer``."""
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: torch.optim.Optimizer) -> Any:
        """See ``detectron2.solver.build_lr_scheduler``."""
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> Any:
        """See ``detectron2.data.build_detection_train_loader``."""
        return build_detection_train_loader(cfg)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> Any:
        """See ``detectron2.data.build_detection_test_loader``."""
        return build_detection_test_loader(cfg, dataset_name)

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        """Return an evaluator; subclasses that evaluate override this."""
        raise NotImplementedError(
            f"{cls.__name__} has no build_evaluator: define it, or pass evaluators to test()"
        )

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: DatasetEvaluator | list[DatasetEvaluator] | None = None,
    ) -> dict[str, Any]:
        """Evaluate on every data set of DATASETS.TEST.

        Args:
            cfg: the config.
            model: the model.
            evaluators: one per data set; made by :meth:`build_evaluator` by default.

        Returns:
            Results by data set; those of a single data set come without its name.
        """
        names = cfg.DATASETS.TEST
        if isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        if evaluators is not None and len(evaluators) != len(names):
            raise AssertionError(f"{len(names)} data sets but {len(evaluators)} evaluators")
        results: dict[str, Any] = OrderedDict()
        for index, name in enumerate(names):
            loader = cls.build_test_loader(cfg, name)
            if evaluators is not None:
                evaluator = evaluators[index]
            else:
                try:
                    evaluator = cls.build_evaluator(cfg, name)
                except NotImplementedError as error:
                    logging.getLogger(__name__).warning("%s is not evaluated: %s", name, error)
                    results[name] = {}
                    continue
            results[name] = inference_on_dataset(model, loader, evaluator)
            if comm.is_main_process():
                if not isinstance(results[name], dict):
                    raise AssertionError(f"an evaluator returned {results[name]!r}, no dict")
                print_csv_format(results[name])
        return next(iter(results.values())) if len(results) == 1 else results

    @staticmethod
    def auto_scale_workers(cfg: CfgNode, num_workers: int) -> CfgNode:
        """Scale batch size, learning rate and schedule to another number of processes.

        Returns:
            ``cfg`` itself where SOLVER.REFERENCE_WORLD_SIZE is 0 or ``num_workers``; else a copy
            whose batch size and learning rate are scaled up and whose iteration counts are scaled
            down by the ratio of both.
        """
        reference = cfg.SOLVER.REFERENCE_WORLD_SIZE
        if reference in (0, num_workers):
            return cfg
        cfg = cfg.clone()
        was_frozen = cfg.is_frozen()
        cfg.defrost()
        solver, scale = cfg.SOLVER, num_workers / reference
        if solver.IMS_PER_BATCH % reference:
            raise AssertionError(
                f"SOLVER.IMS_PER_BATCH {solver.IMS_PER_BATCH} is no multiple of "
                f"SOLVER.REFERENCE_WORLD_SIZE {reference}"
            )

        def fewer(iterations: int) -> int:
            return round(iterations / scale)

        solver.IMS_PER_BATCH = round(solver.IMS_PER_BATCH * scale)
        solver.BASE_LR *= scale
        for key in ("MAX_ITER", "WARMUP_ITERS", "CHECKPOINT_PERIOD"):
            solver[key] = fewer(solver[key])
        solver.STEPS = tuple(map(fewer, solver.STEPS))
        solver.REFERENCE_WORLD_SIZE = num_workers
        cfg.TEST.EVAL_PERIOD = fewer(cfg.TEST.EVAL_PERIOD)
        logging.getLogger(__name__).info(
            "Scaled from %d to %d processes: batch %d, rate %g, %d iterations, warm-up %d",
            reference,
            num_workers,
            solver.IMS_PER_BATCH,
            solver.BASE_LR,
            solver.MAX_ITER,
            solver.WARMUP_ITERS,
        )
        if was_frozen:
            cfg.freeze()
        return cfg
