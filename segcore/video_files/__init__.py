"""Videos: files and folders of frames, read and written frame by frame."""

from .reading import BrokenVideo, ForwardFrames, FrameFolder, Video, open_video

__all__ = ["BrokenVideo", "ForwardFrames", "FrameFolder", "Video", "open_video"]
