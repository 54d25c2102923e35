"""Evaluators on Detectron2's interface that keep counts instead of predictions."""

from segcore.evaluation.builder import build_evaluator
from segcore.evaluation.semantic import SemanticEvaluator

__all__ = ["SemanticEvaluator", "build_evaluator"]
