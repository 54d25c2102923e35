"""A baseline of video inference: one clip, every mask of every frame at full size.

The benchmark compares ``VideoMaskFormer`` with it; the layers are the same. Source: Cheng et al.,
"Mask2Former for Video Instance Segmentation", 2021 (arXiv:2112.10764).

Shapes: Q queries, C classes, T frames, (H, W) the frames, which the prediction has, too.
"""

import torch

from mask2former_rankseg import VideoMaskFormer
from mask2former_rankseg.masked_decoder import resize

NUM_TRACKS = 10


@torch.no_grad()
def baseline_video(model: VideoMaskFormer, item: dict) -> dict:
    """Return the predictions of the model's tasks for one video.

    Returns:
        "sem_seg" (C, T, H, W); for the top tracks "pred_scores" and "pred_labels" (N,) and
        "pred_masks" (N, T, H, W) bool.
    """
    frames = [item["image"][index] for index in range(len(item["image"]))]
    images = model.pad_images(frames).tensor
    class_logits, masks, _ = model.predict(images[None], [item])
    height, width = frames[0].shape[-2:]
    masks = resize(masks, images.shape[-2:])[0, ..., :height, :width]
    scores = class_logits[0].softmax(dim=-1)[:, :-1]
    prediction = {}
    if model.tasks.semantic:
        prediction["sem_seg"] = torch.einsum("qc,qthw->cthw", scores, masks.sigmoid())
    if model.tasks.instance:
        best, index = scores.flatten().topk(NUM_TRACKS)
        prediction["pred_scores"], prediction["pred_labels"] = best, index % scores.shape[1]
        prediction["pred_masks"] = masks[index // scores.shape[1]] > 0
    return prediction
