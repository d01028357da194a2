"""Compression: pruning and weight sharing; the file format is in ``coded``. Floor 5."""

from ..coded import Shared as Shared
from ..coded import read_compressed as read_compressed
from ..coded import write_compressed as write_compressed
from .deep import expand_shared_weights as expand_shared_weights
from .deep import share_weights as share_weights
from .deep import shared_model as shared_model
from .prune import apply_mask as apply_mask
from .prune import class_blind as class_blind
from .prune import class_distribution as class_distribution
from .prune import class_uniform as class_uniform
from .prune import every_array as every_array
from .prune import masked as masked
from .prune import no_embedding as no_embedding
from .prune import prune_gradually as prune_gradually
from .reparametrise import reparametrised as reparametrised
