"""Chips and their published peaks, for the roofline: data with sources.

docs.cloud.google.com/tpu/docs/v4, /v5e, /v5p and /v6e, in 2026: peak compute in bfloat16 and HBM
capacity and bandwidth per chip. The rate of an all-reduce is the published all-reduce bandwidth of
a pod divided by its chips (v4: 1.1 PB/s / 4,096, v5e: 51.2 TB/s / 256, v6e: 102.4 TB/s / 256), for
v5p half of its bidirectional bandwidth of 1,200 GB/s. The compiler rounds float32 products to
bfloat16 unless told otherwise, so one peak holds for both types. The two cores of a v4 chip are one
device, as JAX has it on such a machine; libtpu has to be told.
"""

from typing import NamedTuple


class Chip(NamedTuple):
    """What one chip can do at most, and what libtpu calls its slices."""

    flops: float  # per second, of matrix products in bfloat16
    hbm: int  # bytes of memory
    hbm_rate: float  # bytes per second
    wire_rate: float  # bytes per second that a chip sends in an all-reduce
    slice_of_8: str  # a topology of eight chips
    cores: str = "default"  # what libtpu calls the way in which a chip's cores are devices


CHIPS = {
    "v4": Chip(275e12, 32 << 30, 1200e9, 1.1e15 / 4096, "v4:2x2x2", "megacore"),
    "v5e": Chip(197e12, 16 << 30, 819e9, 51.2e12 / 256, "v5e:2x4"),
    "v5p": Chip(459e12, 95 << 30, 2765e9, 600e9, "v5p:2x2x2"),
    "v6e": Chip(918e12, 32 << 30, 1638e9, 102.4e12 / 256, "v6e:2x4"),
}
