"""Which nuctl is used: NUCTL as a name or a path, that of the path, or that of an earlier bundle."""

from __future__ import annotations

import pytest

from deploy.host import nuctl_program
from deploy.host.nuctl_program import find_nuctl
from tests.deploy.programs import Programs

VERSION = """echo 'Client version:'; echo '"Label: 1.14.1, Git commit: 0"'"""


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Programs:
    programs = Programs(tmp_path)
    monkeypatch.setenv("PATH", f"{programs.bin}:/usr/bin:/bin")
    monkeypatch.delenv("NUCTL", raising=False)
    monkeypatch.setattr(nuctl_program, "kept_nuctl", lambda: None)
    return programs


def found(programs, given="", dashboard="", aloud=True):
    return find_nuctl(programs.console, programs.commands, given, dashboard, aloud=aloud)


def test_a_name_without_a_slash_is_looked_up_on_the_path(programs, monkeypatch):
    path = programs.write("nuctl", VERSION)
    monkeypatch.setenv("NUCTL", "nuctl")
    assert found(programs) == nuctl_program.Nuctl(str(path), "1.14.1")


def test_another_name_of_the_path(programs, monkeypatch):
    path = programs.write("nuctl-1.14", VERSION)
    monkeypatch.setenv("NUCTL", "nuctl-1.14")
    assert found(programs).path == str(path)


def test_a_path_relative_to_where_the_script_was_started(programs, monkeypatch, tmp_path):
    path = programs.write("nuctl", VERSION, folder=tmp_path / "tools")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NUCTL", "tools/nuctl")
    assert found(programs) == nuctl_program.Nuctl(str(path), "1.14.1")


def test_the_one_of_a_bundle_takes_precedence(programs, monkeypatch, tmp_path):
    programs.write("nuctl", VERSION)
    monkeypatch.setenv("NUCTL", "nuctl")
    bundled = programs.write("nuctl", VERSION, folder=tmp_path / "bundle")
    assert found(programs, given=str(bundled)).path == str(bundled)


def test_without_one_on_the_path_that_of_an_earlier_bundle_is_taken(programs, monkeypatch, tmp_path):
    kept = programs.write("nuctl", VERSION, folder=tmp_path / "kept")
    monkeypatch.setattr(nuctl_program, "kept_nuctl", lambda: kept)
    assert found(programs) == nuctl_program.Nuctl(str(kept), "1.14.1")


def test_it_is_not_installed(programs, capsys):
    assert found(programs, dashboard="1.13.0") == nuctl_program.Nuctl("nuctl", "")
    said = capsys.readouterr().out
    assert "MISSING nuctl is not installed" in said
    assert "/releases/download/1.13.0/nuctl-1.13.0-" in said
    assert programs.console.missing == 1


@pytest.mark.parametrize("text", ["exit 1", "echo of another program"])
def test_it_does_not_run(programs, capsys, text):
    path = programs.write("nuctl", text)
    assert found(programs).version == ""
    assert f"nuctl ({path}) does not run" in capsys.readouterr().out


def test_one_for_another_kind_of_machine_does_not_run(programs, capsys):
    path = programs.bin / "nuctl"
    path.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(60))
    path.chmod(0o755)
    assert found(programs).version == ""
    assert f"nuctl ({path}) does not run" in capsys.readouterr().out


def test_a_file_that_is_named_and_missing(programs, capsys, monkeypatch):
    monkeypatch.setenv("NUCTL", "nowhere/nuctl")
    found(programs)
    assert "MISSING there is no program nowhere/nuctl, which NUCTL names" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("version", "dashboard", "said"),
    [
        ("1.9.2", "", "nuctl 1.9.2 is too old: 1.13 or newer is needed"),
        ("1.17.4", "", "ok      nuctl 1.17.4\n"),
        ("1.18.0", "", "newer than the versions that these scripts know of (1.13 to 1.17)"),
        ("1.14.1", "1.15.9", "Nuclio's dashboard is 1.15.9: a nuctl of the same version is safer"),
    ],
)
def test_versions(programs, capsys, version, dashboard, said):
    programs.write("nuctl", VERSION.replace("1.14.1", version))
    found(programs, dashboard=dashboard)
    output = capsys.readouterr().out
    assert said in output
    assert ("newer" in output) == (version != "1.17.4" and not dashboard)


def test_what_is_there_is_not_said_to_those_who_only_list(programs, capsys):
    programs.write("nuctl", VERSION)
    found(programs, dashboard="1.15.9", aloud=False)
    assert capsys.readouterr().out == ""
