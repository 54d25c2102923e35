"""Evaluators with Detectron2's interface that keep counts or embeddings instead of predictions."""

from segcore.evaluation.builder import build_evaluator
from segcore.evaluation.by_output import EvaluatorsByOutput
from segcore.evaluation.instances import InstanceEvaluator
from segcore.evaluation.multilabel import MultilabelEvaluator
from segcore.evaluation.panoptic import PanopticEvaluator
from segcore.evaluation.retrieval import RetrievalEvaluator
from segcore.evaluation.semantic import SemanticEvaluator
from segcore.evaluation.stateful import StatefulEvaluator
from segcore.evaluation.video_instances import VideoInstanceEvaluator
from segcore.evaluation.video_semantic import VideoSemanticEvaluator

__all__ = [
    "EvaluatorsByOutput",
    "InstanceEvaluator",
    "MultilabelEvaluator",
    "PanopticEvaluator",
    "RetrievalEvaluator",
    "SemanticEvaluator",
    "StatefulEvaluator",
    "VideoInstanceEvaluator",
    "VideoSemanticEvaluator",
    "build_evaluator",
]
