"""Damaged files of each kind, a few hundred: see ``make fuzz``, which tries thousands."""

from pathlib import Path

import pytest

from fuzz.run import Target, fuzz
from fuzz.targets import targets


@pytest.mark.parametrize("target", targets(), ids=lambda target: target.name)
def test_damaged_files_are_a_users_mistake(target: Target, tmp_path: Path) -> None:
    findings = fuzz(target, 40, 0, tmp_path)
    assert findings == []
