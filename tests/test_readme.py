"""What the README shows runs as it stands there."""

import re

import pytest


@pytest.fixture(scope="module")
def readme(root) -> str:
    return (root / "README.md").read_text()


def test_python_examples_run_and_agree(readme):
    example, equivalent = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names: dict = {}
    exec(example + equivalent, names)
    ours = names["loss"](names["z0"], names["z1"], names["pseudo_class"][:256])
    # Both are float32 sums over 512 terms.
    assert float(ours.detach()) == pytest.approx(float(names["value"].detach()), rel=1e-5)


def test_every_command_it_names_exists(readme):
    from clustercl.cli.main import COMMANDS

    named = set(re.findall(r"^clustercl (\w+)", readme, re.MULTILINE))
    assert named and named <= set(COMMANDS)


def test_links_lead_somewhere(readme, root):
    targets = re.findall(r"\]\(([^)#:]+)\)", readme)
    assert targets
    for target in targets:
        assert (root / target).exists(), target
