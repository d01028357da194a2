import re
from pathlib import Path

import pytest

import seqkd_jax
from seqkd_jax.report.results import PLACE, fill_tables

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_tables_are_those_of_the_results_that_were_measured():
    assert len(PLACE.findall(README)) >= 4
    assert fill_tables(README, ROOT) == README, "python -m seqkd_jax.report README.md"


def test_the_code_names_what_there_is():
    names = set(re.findall(r"\bskd\.(\w+)", README))
    assert names and names <= set(seqkd_jax.__all__)


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md"])
def test_links_and_paths_lead_somewhere(name):
    text = (ROOT / name).read_text(encoding="utf-8")
    for path in re.findall(r"\]\((?!https?:)([^)#]+)\)|<!-- (?:table3?|speed): (\S+) -->", text):
        assert (ROOT / (path[0] or path[1])).exists(), path
