"""Things with exact outlines, and the scenes that they are laid out in."""
