"""One HTML file that compares students, sentence by sentence: table, pictures, texts.

``kept`` reads the folder of a run, ``insides`` asks its models, ``content`` gathers what is shown,
and ``assemble`` puts it into one file with page.html, page.css and the scripts.
"""

from .assemble import assemble as assemble
from .assemble import write_page as write_page
from .content import page_content as page_content
from .kept import read_run as read_run
