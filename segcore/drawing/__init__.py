"""Draw predictions: overlays, legends, segments, contact sheets, animations and HTML pages.

``overlays``   label maps on images, names on regions, legends, contact sheets
``segments``   segments and objects, drawn by the functions for label maps
``animation``  GIF and WebP files of frames
``page``       an HTML page with images beside it
"""
