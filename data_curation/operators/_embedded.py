"""Pictures that an operator makes: they go on within their row, as `data:` addresses; operators write no files."""

from __future__ import annotations

import base64
import io

from PIL import Image

JPEG_QUALITY = 90


def png_address(picture: Image.Image) -> str:
    """Without loss: pages, drawn tables and formulas."""
    return _address(picture, "PNG")


def jpeg_address(picture: Image.Image) -> str:
    """Frames and photographs."""
    return _address(picture, "JPEG", quality=JPEG_QUALITY)


def _address(picture: Image.Image, kind: str, **how: int) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **how)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
