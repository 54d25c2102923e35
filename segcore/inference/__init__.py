"""Assemble dense predictions window by window and class by class, and merge those of views.

``windows``      parts of maps, and of resized maps
``predictions``  scores, labels and top-k classes of an image, filled a window at a time
``unmerged``     predictions of several views of an image, and their mean
"""
