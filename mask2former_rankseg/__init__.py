"""Mask2Former with RankSeg: semantic, panoptic and instance segmentation."""
