"""Per-pixel classification: Segmenter, DeepLabv3(+), UPerNet, with RankSeg, EncNet or ESSNet."""
