"""What a run needs of a TPU that is not there: everything behind ``seqkd plan``. Floor 8.

The compiler for TPUs runs without one. Programs are compiled for a named slice and never run.
"""

from .chips import CHIPS as CHIPS
from .chips import Chip as Chip
from .fitting import Slice as Slice
from .fitting import largest_batch as largest_batch
from .fitting import open_slice as open_slice
from .fitting import plan as plan
from .fitting import roofline as roofline
from .flops import search_flops as search_flops
from .flops import teaching_flops as teaching_flops
from .flops import training_flops as training_flops
from .hlo import Kernel as Kernel
from .hlo import kernels as kernels
from .programs import Maker as Maker
from .programs import Work as Work
from .programs import search as search
from .programs import training as training
from .programs import word_kd_training as word_kd_training
