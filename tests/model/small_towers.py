"""Small dual encoders with random weights, in folders as transformers writes them."""

import torch
from transformers import (
    BertConfig,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    SiglipConfig,
    SiglipImageProcessorPil,
    SiglipModel,
    VisionTextDualEncoderConfig,
    VisionTextDualEncoderModel,
    ViTConfig,
)

from tbkin.data.processing_tbkin import build_tokenizer

SIDE = 32  # pixels
LENGTH = 20  # tokens that they read
WIDTH = 24  # of CLIP's features; SigLIP's are as wide as its layers
LAYERS = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "intermediate_size": 32,
    "num_attention_heads": 2,
}
IMAGE = {**LAYERS, "image_size": SIDE, "patch_size": 16}
WORDS = """
    a an the is are of to and we see in picture with left right above below inside one two three
    four five six seven eight them shapes small large red blue green yellow orange purple square
    squares circle circles star stars cross crosses triangle triangles
""".split()


def write_clip(folder):
    """A CLIP; returns the folder."""
    settings = {"text_config": text_config(), "vision_config": IMAGE, "projection_dim": WIDTH}
    return write(folder, CLIPModel, CLIPConfig(**settings), CLIPImageProcessorPil)


def write_siglip(folder):
    """A SigLIP; returns the folder."""
    vision = {**IMAGE, "vision_use_head": True}
    config = SiglipConfig(text_config=text_config(), vision_config=vision)
    return write(folder, SiglipModel, config, SiglipImageProcessorPil)


def write_dual(folder):
    """A ViT and a BERT, joined; returns the folder."""
    config = VisionTextDualEncoderConfig.from_vision_text_configs(
        ViTConfig(**IMAGE),
        BertConfig(
            **LAYERS, vocab_size=text_config()["vocab_size"], max_position_embeddings=LENGTH
        ),
        projection_dim=WIDTH,
    )
    return write(folder, VisionTextDualEncoderModel, config, CLIPImageProcessorPil)


def text_config():
    """Of a tokenizer from ``build_tokenizer``; CLIP reads its state at the end token."""
    tokenizer = build_tokenizer([WORDS])
    return {
        **LAYERS,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": LENGTH,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.cls_token_id,
        "eos_token_id": tokenizer.sep_token_id,
    }


def write(folder, kind, config, image_processor):
    """Weights large enough that no two pictures, and no two texts, are alike."""
    torch.manual_seed(0)
    model = kind(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)
    model.save_pretrained(folder)
    build_tokenizer([WORDS]).save_pretrained(folder)
    size = {"height": SIDE, "width": SIDE}
    image_processor(size=size, crop_size=size).save_pretrained(folder)
    return folder
