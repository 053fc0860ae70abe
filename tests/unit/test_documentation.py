"""What the documents tell people to type and to look for is there."""

import importlib
import re
import shlex
from pathlib import Path

import pytest
import tyro

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()


def documented_commands() -> list[str]:
    """Return each `python -m jobs.VERB ...` of the documents, on one line."""
    texts = [README, (ROOT / "infra" / "README.md").read_text()]
    joined = "\n".join(texts).replace("\\\n", " ")
    return sorted(set(re.findall(r"python (-m jobs\.\w+[^\n`]*)", joined)))


def test_commands_are_found() -> None:
    assert len(documented_commands()) >= 5


@pytest.mark.parametrize("command", documented_commands())
def test_a_documented_command_is_accepted(command: str) -> None:
    _, module_name, *flags = shlex.split(command)
    module = importlib.import_module(module_name)
    if flags:
        config = getattr(module, module_name.removeprefix("jobs.").capitalize())
        tyro.cli(config, args=flags)


def test_ci_finds_the_test_command() -> None:
    assert "<!-- command: test -->\n```bash\n" in README


def test_the_tree_names_every_module_once() -> None:
    tree = README.split("## What lies where")[1]
    named = re.findall(r"^ +(\w+\.py) ", tree, re.MULTILINE)
    modules = [*(ROOT / "jobs").rglob("*.py"), *(ROOT / "redaction_core").rglob("*.py")]
    names = [path.name for path in modules if path.name != "__init__.py"]
    assert sorted(named) == sorted(names)
