"""Tables, pictures and a page of measurements. Floor 7."""

from . import pictures as pictures
from .page import write_page as write_page
from .results import Results as Results
from .results import read_results as read_results
from .results import write_results as write_results
from .table import Row as Row
from .table import Truth as Truth
from .table import compared as compared
from .table import table as table
