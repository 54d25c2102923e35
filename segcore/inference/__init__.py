"""Dense predictions: assembled window by window and class by class, and merged."""
