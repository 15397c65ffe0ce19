"""What the README and docs/ show runs as it stands there."""

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


def test_the_page_of_the_loss_runs_and_agrees(root):
    names: dict = {}
    exec("".join(re.findall(r"```python\n(.*?)```", (root / "docs/loss.md").read_text(), re.DOTALL)), names)
    # Both are float32 sums over 512 terms.
    assert float(names["value"]) == pytest.approx(float(names["plain"]), rel=1e-5)


def test_the_page_of_the_linkage_runs(root, capsys):
    names: dict = {}
    exec("".join(re.findall(r"```python\n(.*?)```", (root / "docs/linkage.md").read_text(), re.DOTALL)), names)
    assert names["new_labels"].shape == (10,) and "silhouette" in capsys.readouterr().out


def test_every_command_it_names_exists(readme):
    from clustercl.cli.main import COMMANDS

    named = set(re.findall(r"^clustercl (\w+)", readme, re.MULTILINE))
    assert named and named <= set(COMMANDS)


def test_links_lead_somewhere(readme, root):
    targets = [root / target for target in re.findall(r"\]\(([^)#:]+)\)", readme)]
    for page in sorted((root / "docs").glob("*.md")):
        targets += [root / "docs" / target for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text())]
    assert targets
    for target in targets:
        assert target.exists(), target
