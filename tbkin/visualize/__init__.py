"""What decided an answer, a box or a match, and what a scene graph holds: SVG, HTML, PNG."""

from __future__ import annotations

from tbkin.visualize.attention import AttentionExport
from tbkin.visualize.evidence import (
    Evidence,
    draw_boxes,
    draw_graph,
    draw_region_attention,
    draw_word_attention,
    write_report,
)
from tbkin.visualize.grounded import GroundedBox
from tbkin.visualize.matched import MatchedPicture
from tbkin.visualize.scene_graph import (
    check_drawing_path,
    check_picture,
    draw_scene_graph,
    write_drawing,
)
from tbkin.visualize.thumbnails import Thumbnail, draw_thumbnails

__all__ = [
    "AttentionExport",
    "Evidence",
    "GroundedBox",
    "MatchedPicture",
    "Thumbnail",
    "check_drawing_path",
    "check_picture",
    "draw_boxes",
    "draw_graph",
    "draw_region_attention",
    "draw_scene_graph",
    "draw_thumbnails",
    "draw_word_attention",
    "write_drawing",
    "write_report",
]
