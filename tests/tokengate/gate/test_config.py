"""What a gate takes from its file about itself."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from gated_code import LIMIT
from other_users import needs_root, public_directory, run_as

from tokengate import Gate
from tokengate.errors import BadConfig

pytestmark = pytest.mark.usefixtures("programs")

OPS = 7000  # number of a group

CONNECT = """
s = socket.socket(socket.AF_UNIX)
try:
    s.connect(sys.argv[1])
    print(s.makefile().readline())
except OSError as error:
    print(type(error).__name__)
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory that all users can enter, with the runtime directory in it."""
    with public_directory() as made:
        monkeypatch.setenv("TOKENGATE_RUNTIME_DIR", str(made / "run"))
        yield made


@pytest.fixture
def file(folder: Path) -> Path:
    return folder / "tokengate.toml"


def socket_of(gate: Gate) -> Path:
    assert gate._control_server is not None
    assert gate._control_server.path is not None
    return gate._control_server.path


@needs_root
def test_the_socket_is_open_to_the_group_of_the_file(file: Path) -> None:
    """Case 24. Its users reach the gate, which decides what they may do; others do not."""
    file.write_text(f"[control]\ngroup = {OPS}\n")
    with Gate("shared", config=file, shutdown=LIMIT) as gate:
        path = socket_of(gate)
        modes = [(stat.S_IMODE(one.stat().st_mode), one.stat().st_gid) for one in (path.parent, path)]
        of_group = run_as(12345, 12345, [OPS], CONNECT, str(path))
        of_others = run_as(12346, 12346, [4711], CONNECT, str(path))

    assert modes == [(0o750, OPS), (0o660, OPS)]
    assert "shared" in of_group
    assert of_others == "PermissionError\n"


def test_without_a_group_the_socket_is_the_users_alone(file: Path) -> None:
    """With a file or without one."""
    file.touch()
    for config in (None, file):
        with Gate("alone", config=config, shutdown=LIMIT) as gate:
            path = socket_of(gate)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_another_group_holds_from_the_next_opening(file: Path) -> None:
    """A reload says so, and takes the rest of the file."""
    file.touch()
    with Gate("shared", config=file, control_socket=False, shutdown=LIMIT) as gate:
        file.write_text(f"[control]\ngroup = {OPS}\n")
        left_out = gate.control.reload().left_out
        file.write_text("")

        assert left_out == ("control.group: it holds from the next time that the gate is opened",)
        assert gate.control.reload().left_out == ()


def test_a_gate_with_rights_in_a_file_that_others_can_write_is_not_opened(file: Path) -> None:
    """Case 7. Nor is such a file reloaded."""
    file.write_text("\n[[grant]]\nto = 'uid:1'\nrole = 'view'\n")
    file.chmod(0o664)
    with pytest.raises(BadConfig, match=rf"^{file}:2: a file with the section grant must be writable by no one else"):
        Gate("open", config=file, shutdown=LIMIT).open()

    file.chmod(0o600)
    with Gate("kept", config=file, control_socket=False, shutdown=LIMIT) as gate:
        file.chmod(0o664)
        with pytest.raises(ValueError, match="a file with the section grant must be writable by no one else"):
            gate.control.reload()
