"""Every command that a page tells its reader to type is typed, in a folder of its own; links lead somewhere."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs import session

from wisp.interfaces.cli.reference import pages as generated_pages

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted({ROOT / "README.md", *ROOT.glob("*/README.md"), *DOCS.rglob("*.md")})
# A figure's name is what its maker is called with first.
FIGURE = re.compile(r'(?:Figure(?:\.\w+)?|_median|_ratio|_memory)\(\s*(?:name=)?"([a-z_]+)"')
EVENT = re.compile(r'"((?:instance|network|plan|scaling|fault|link|host)-[a-z-]+|planned|scaling|fault)"')
LINK = re.compile(r"\]\(([^)\s#]+)(?:#[^)]*)?\)")


CHECKED = [page for page in PAGES if "<!-- check -->" in page.read_text()]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    yield tmp_path
    environment = session.environment_in(tmp_path)
    subprocess.run(["wisp", "down", "--all"], env=environment, cwd=tmp_path, check=True, timeout=60)


@pytest.mark.parametrize("page", CHECKED, ids=name_of)
def test_a_page_is_as_it_says(page: Path, folder: Path) -> None:
    environment = session.environment_in(folder)
    for step in session.steps_of(page.read_text()):
        assert not (problem := session.run(step, folder, environment)), f"{name_of(page)} {problem}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text()) if "://" not in target]
    lost = [target for target in targets if not (page.parent / target).exists()]
    assert not lost, f"{name_of(page)} links to what is not there"


@pytest.mark.parametrize("name", generated_pages())
def test_generated_pages_are_fresh(name: str) -> None:
    written = (DOCS / "reference" / name).read_text()
    assert written == generated_pages()[name], "run: make docs"


def test_every_event_word_is_explained() -> None:
    source = (ROOT / "src/wisp/controller/core.py").read_text()
    said = set(EVENT.findall(source))
    page = (DOCS / "reference/events.md").read_text()
    explained = set(re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE))
    assert said == explained


def test_every_line_of_doctor_is_explained() -> None:
    source = (ROOT / "src/wisp/assembly/doctor.py").read_text()
    said = set(re.findall(r'subject ?= ?"([a-z ]+)"', source))
    page = (DOCS / "howto/troubleshooting.md").read_text()
    assert "taps" in said
    assert {subject for subject in said if f"| {subject} |" not in page} == set()


def test_every_figure_has_its_promise() -> None:
    bench = "".join(path.read_text() for path in (ROOT / "src/wisp/bench").glob("*.py"))
    measured = set(FIGURE.findall(bench))
    promised = set(re.findall(r"^\| `([a-z_]+)` \|", (DOCS / "specification.md").read_text(), re.MULTILINE))
    assert "spt_ms" in measured
    assert measured <= promised


@pytest.mark.parametrize(
    ("expected", "output", "fits"),
    [
        ("", "anything", True),
        ("a  b", "a      b", True),
        ("a b", "a c", False),
        ("ready ... ms", "ready  12.5   ms", True),
        ("first\n...\nlast", "first\nlast", True),
        ("first\n...\nlast", "first\nx\ny\nlast", True),
        ("first\n...", "first\nx\ny", True),
        ("...\nlast", "x\nlast", True),
        ("first\n...", "second\nx", False),
    ],
)
def test_dots_stand_for_anything(expected: str, output: str, fits: bool) -> None:
    assert session.as_expected(expected, output) is fits
