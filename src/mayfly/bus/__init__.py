"""Where runner requests wait."""
