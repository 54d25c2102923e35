"""RankSeg: predict the classes of an image first, then segment among these few.

Its parts work with any segmentation model: a multi-label head (``heads``) and its loss
(``losses``), the selection of the most probable classes (``selection``), labels as ranks
(``labels``), scores that depend on the rank (``scores``), and the selection by ground truth
(``oracle``). Source: RankSeg (ECCV 2022).

Shapes: B images, C classes, kappa selected classes, L tokens, D width.
"""
