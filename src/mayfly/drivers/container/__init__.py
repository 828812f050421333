"""A runner in a container of Docker or Podman, made for it from a pinned image."""

from mayfly.drivers.container.driving import open_driver
from mayfly.drivers.container.settings import Settings

__all__ = ["Settings", "open_driver"]
