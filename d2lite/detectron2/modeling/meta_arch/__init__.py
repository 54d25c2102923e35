"""Meta-architectures: whole models."""

from detectron2.modeling.meta_arch.build import META_ARCH_REGISTRY, build_model
from detectron2.modeling.meta_arch.semantic_seg import SEM_SEG_HEADS_REGISTRY, build_sem_seg_head
