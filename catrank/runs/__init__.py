"""Runs over many images or a video, from files to files: what the command line does with a model.

``images``    segment images into a folder, and resume
``videos``    segment a video into a video file or a folder of frames
``exports``   a folder of results in formats of choice
``progress``  the record that an interrupted run resumes from
``checks``    warnings about results that hold nothing
"""
