"""Arrays whose weights share a few values, as bytes. Floor 0: numpy and jax alone."""

from .format import Shared as Shared
from .format import Sizes as Sizes
from .format import pack_compressed as pack_compressed
from .format import read_compressed as read_compressed
from .format import unpack_compressed as unpack_compressed
from .format import write_compressed as write_compressed
