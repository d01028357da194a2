"""Tables and pictures of what was measured. Floor 4."""

from .table import Row as Row
from .table import Truth as Truth
from .table import compared as compared
from .table import table as table
