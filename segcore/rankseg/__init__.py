"""RankSeg: find the classes of an image first, then tell apart those few.

Its parts know no host: a multi-label head (``heads``) and its loss (``losses``), the selection of
the likeliest classes (``selection``), labels as ranks (``labels``), scores that depend on the rank
(``scores``), and what a perfect selection would give (``oracle``). Source: RankSeg (ECCV 2022).

Shapes: B images, C classes, kappa selected classes, L tokens, D width.
"""
