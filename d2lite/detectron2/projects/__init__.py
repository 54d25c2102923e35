"""The small parts of Detectron2's projects that published segmentation code uses."""
