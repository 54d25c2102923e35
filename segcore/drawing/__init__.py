"""Drawing: overlays, segments, animations and result pages."""
