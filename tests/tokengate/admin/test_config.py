"""The section `[admin]`: what the daemon reads, and what a gate says of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tokengate import Gate
from tokengate.admin import Admin, _plugin
from tokengate.admin._config import AdminRow, Settings, settings_in
from tokengate.authority._decide import ROLES
from tokengate.errors import BadConfig, BadRequest


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokengate.toml"


def test_the_daemon_reads_its_section_whatever_else_a_file_has(file: Path) -> None:
    """Sections of plugins that it does not know are not its affair; who may reach it, and who may do what, is."""
    file.write_text(
        """
[admin]
port = 9000
host = "127.0.0.1"
ceiling = ["operator", "audit"]
[control]
group = 4
[[grant]]
to = "uid:1000"
role = "admin"
[[quota]]
of = "a plugin of the user"
"""
    )
    found = settings_in(file)

    assert found.admin == AdminRow(9_000, "127.0.0.1", ROLES["operator"] | {"audit"})
    assert (found.group, [grant.users for grant in found.grants]) == (4, [{1000}])


def test_without_a_file_or_a_section_everything_has_its_default(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No ceiling, a random host, port 8787; `TOKENGATE_CONFIG` names the file if no one else does."""
    monkeypatch.delenv("TOKENGATE_CONFIG", raising=False)
    assert settings_in(None) == Settings(AdminRow(8_787, "", None), None, ())

    file.write_text("[admin]\nport = 9000\n")
    monkeypatch.setenv("TOKENGATE_CONFIG", str(file))
    assert settings_in(None).admin.port == 9_000


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("port = 0", "admin.port is 0; use a whole number from 1 to 65535"),
        ("port = true", "admin.port is True; use a whole number from 1 to 65535"),
        ("port = '80'", "admin.port is '80'; use a whole number from 1 to 65535"),
        ("host = ''", "admin.host is ''; use 127.0.0.1, or a name that ends in .localhost"),
        ("host = 'example.org'", "admin.host is 'example.org'; use 127.0.0.1, or a name that ends in .localhost"),
        ("host = 'a/b'", "admin.host is 'a/b'; use 127.0.0.1, or a name that ends in .localhost"),
        ("ceiling = []", "admin.ceiling is []; use roles (viewer, operator, admin) or rights (view,"),
        ("ceiling = 'boss'", "admin.ceiling is 'boss'; use roles (viewer, operator, admin) or rights (view,"),
        ("ceiling = ['view', 7]", "admin.ceiling[1] is 7; use roles"),
        ("ceiling = ['view', ['a']]", "admin.ceiling[1] is ['a']; use roles"),
        ("ceilling = ['view']", "admin.ceilling is ['view']; there is no such key; use one of port, host, ceiling"),
    ],
)
def test_a_mistake_is_an_error_with_its_line_and_what_to_write(file: Path, line: str, problem: str) -> None:
    file.write_text(f"[admin]\n\n{line}\n")
    with pytest.raises(BadConfig) as raised:
        settings_in(file)

    assert str(raised.value).startswith(f"{file}:3: {problem}")


def test_others_must_not_be_able_to_lift_the_ceiling(file: Path) -> None:
    """A file with the section is writable by its user only."""
    file.write_text("[admin]\nceiling = ['viewer']\n")
    file.chmod(0o666)
    with pytest.raises(BadConfig, match="section admin must be writable by no one else"):
        settings_in(file)


def test_a_gate_without_the_plugin_refuses_the_section(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the plugin, when the gate opens and when it reads the file again; with it, all is well."""
    monkeypatch.setattr(_plugin, "runs", lambda: True)
    file.write_text("")
    with Gate("shop", config=file, control_socket=False) as gate:
        file.write_text("\n[admin]\nport = 9000\n")
        with pytest.raises(BadRequest) as reloaded:
            gate.control.reload()
    with pytest.raises(BadConfig) as opened, Gate("shop", config=file, control_socket=False):
        pass
    with Gate("shop", config=file, plugins=[Admin()]) as gate:
        gate.control.reload()

    text = f"{file}:2: [admin] is for the plugin Admin; open the gate with plugins=[Admin()]"
    assert (str(reloaded.value), str(opened.value)) == (text, text)
