"""Read and write video files, and read folders of frames, one frame at a time.

``reading``  video files (PyAV) and folders of frames
``writing``  video files
"""

from .reading import BrokenVideo, ForwardFrames, FrameFolder, Video, open_video

__all__ = ["BrokenVideo", "ForwardFrames", "FrameFolder", "Video", "open_video"]
