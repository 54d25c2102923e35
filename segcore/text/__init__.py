"""Text for models that compare images with it: tokens, prompts, embeddings, contrastive loss.

No module here imports a config or Detectron2.
"""

from segcore.text.batches import CaptionTokenizer, stack_images
from segcore.text.cache import TextCache, text_fingerprint
from segcore.text.contrastive import contrastive_loss, gather_with_gradient
from segcore.text.embeddings import TextEncoder, embed_prompts, embed_vocabulary
from segcore.text.nouns import build_word_finder, draw_prompts
from segcore.text.templates import TEMPLATES, prompt_templates
from segcore.text.tokenizers import ClipTokenizer, Tokenizer
from segcore.text.tokens import encode, tokenize, tokenize_captions

__all__ = [
    "TEMPLATES",
    "CaptionTokenizer",
    "ClipTokenizer",
    "TextCache",
    "TextEncoder",
    "Tokenizer",
    "build_word_finder",
    "contrastive_loss",
    "draw_prompts",
    "embed_prompts",
    "embed_vocabulary",
    "encode",
    "gather_with_gradient",
    "prompt_templates",
    "stack_images",
    "text_fingerprint",
    "tokenize",
    "tokenize_captions",
]
