"""How fast this library is on this machine: everything behind ``seqkd bench``. Floor 8.

Machines share their cores: only rows that were measured in turns within one run can be compared.
"""

from .peer import measure_against as measure_against
from .products import flops as flops
from .real_text import measure_real as measure_real
from .real_text import real_rows as real_rows
from .rows import DECODING as DECODING
from .rows import FIXED as FIXED
from .rows import MODELS as MODELS
from .rows import Row as Row
from .rows import chosen as chosen
from .rows import fixed_row as fixed_row
from .rows import random_batches as random_batches
from .steps import step_of as step_of
from .table2 import measure_table2 as measure_table2
from .timing import Record as Record
from .turns import Measured as Measured
from .turns import measure_fixed as measure_fixed
