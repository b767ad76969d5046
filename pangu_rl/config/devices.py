"""What a device can do at most, for `pangu-rl plan`. File: `configs/devices.yaml`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveFloat

from pangu_rl.config.base import Strict


class DeviceFacts(Strict):
    """Of one device, or of one core of a machine without devices. 1 GB is 10^9 bytes."""

    tflops: PositiveFloat
    """Dense matrix products in bfloat16, 10^12 operations a second."""
    memory_gb_s: PositiveFloat
    """Reading its own memory."""
    link_gb_s: PositiveFloat
    """To the devices of its node, in one direction."""
    network_gb_s: PositiveFloat
    """To another node, in one direction: the device's part of the node's adapters."""
    host_gb_s: PositiveFloat
    """To the memory of its host."""
    source: str
    """Where the figures are from."""


class DevicesConfig(Strict):
    devices: Annotated[dict[str, DeviceFacts], Field(min_length=1)]
