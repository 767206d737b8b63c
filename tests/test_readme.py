"""What the README shows runs as printed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

README = (Path(__file__).parent.parent / "README.md").read_text()


def test_the_ten_lines_run_as_printed(tmp_path: Path) -> None:
    """The example, pasted into a file, prints what the README says."""
    for code, output in re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", README, re.DOTALL):
        path = tmp_path / "ten.py"
        path.write_text(code)
        done = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=120, check=False)

        assert (done.stdout, done.stderr) == (output, "")


def test_the_files_that_the_readme_names_are_there() -> None:
    """Whoever follows it finds something."""
    root = Path(__file__).parent.parent
    for name in ("docs/semantics.md", "CONTRIBUTING.md", "examples/shop.py", "tokengate/demo/"):
        assert name in README
        assert (root / name).exists()
    for floor in ("tokengate", "supervisors", "actors"):
        row = next(line for line in README.splitlines() if line.startswith(f"| `{floor}` |"))
        for file in re.findall(r"`([\w/]+\.py|\w+/)`", row):
            assert (root / floor / file).exists()
