"""What the doctor says of made-up machines, each time with what to do."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from flows import doctor
from flows.doctor import Finding, examine
from flows.settings import Settings
from tests.flows.servers import environment, script


def find(findings: list[Finding], what: str) -> Finding:
    """Return the one finding about something."""
    (found,) = [finding for finding in findings if finding.what == what]
    return found


def test_everything_amiss_has_a_remedy_and_what_is_well_has_none(tmp_path: Path) -> None:
    findings = examine(Settings(home=tmp_path))
    assert {finding.level for finding in findings} <= {"ok", "warn", "fail"}
    for finding in findings:
        assert bool(finding.remedy) == (finding.level != "ok"), finding


def test_this_installation_has_the_pins_that_work_together(tmp_path: Path) -> None:
    findings = examine(Settings(home=tmp_path))
    assert {find(findings, name).level for name in doctor.PINS} == {"ok"}


@pytest.mark.parametrize(
    ("installed", "level"),
    [("0.138.9", "fail"), ("0.139.0", "ok"), ("0.150.7", "ok"), ("0.151.0", "fail")],
)
def test_a_pin_is_judged_by_both_its_ends(
    installed: str, level: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = doctor.version
    monkeypatch.setattr(doctor, "version", lambda n: installed if n == "fastapi" else real(n))
    finding = find(examine(Settings(home=tmp_path)), "fastapi")
    assert finding.level == level
    assert ("constraints.txt" in finding.remedy) == (level == "fail")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.PINS, "no-such-package", ("1", "2", "reinstall"))
    finding = find(examine(Settings(home=tmp_path)), "no-such-package")
    assert (finding.level, finding.remedy) == ("fail", "run `make install`")


def test_little_disk_memory_and_shm_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "NEED_FREE_GB", 10**9)
    monkeypatch.setattr(doctor, "NEED_MEMORY_GB", 10**9)
    monkeypatch.setattr(doctor, "NEED_SHM_MB", 10**12)
    findings = examine(Settings(home=tmp_path))
    assert "RADLOOP_HOME" in find(findings, "disk free").remedy
    assert "RADLOOP_WORKERS" in find(findings, "memory").remedy
    assert "--shm-size" in find(findings, "/dev/shm").remedy
    assert {find(findings, what).level for what in ("disk free", "memory", "/dev/shm")} == {"warn"}


def test_sqlite_on_a_network_file_system_is_refused_and_postgres_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "file_system", lambda _: "nfs4")
    embedded = find(examine(Settings(home=tmp_path)), "home's file system")
    assert embedded.level == "fail"
    assert "RADLOOP_CATALOG_URL" in embedded.remedy
    elsewhere = Settings(
        home=tmp_path,
        catalog_url="postgresql+psycopg2://db/catalog",
        vault_url="postgresql+psycopg2://db/vault",
        mlflow_uri="http://127.0.0.1:1",
    )
    assert find(examine(elsewhere), "home's file system").level == "ok"


def test_mlflow_alone_in_sqlite_on_a_network_file_system_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "file_system", lambda _: "cifs")
    settings = Settings(
        home=tmp_path,
        catalog_url="postgresql+psycopg2://db/catalog",
        vault_url="postgresql+psycopg2://db/vault",
    )
    finding = find(examine(settings), "home's file system")
    assert finding.level == "fail"
    assert "RADLOOP_MLFLOW_URI" in finding.remedy


def test_a_vault_that_others_may_read_is_told_with_the_command(tmp_path: Path) -> None:
    vault = tmp_path / "vault.db"
    vault.touch()
    vault.chmod(0o644)
    finding = find(examine(Settings(home=tmp_path)), "vault's mode")
    assert (finding.level, finding.value) == ("fail", "0644")
    assert finding.remedy == f"run `chmod 600 {vault}`"
    vault.chmod(0o600)
    assert find(examine(Settings(home=tmp_path)), "vault's mode").level == "ok"


def test_servers_that_do_not_answer_are_told_with_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{port}/api")
    settings = Settings(
        home=tmp_path,
        mlflow_uri=f"http://127.0.0.1:{port}",
        dask_address=f"tcp://127.0.0.1:{port}",
        catalog_url=f"postgresql+psycopg2://me:hunter2@127.0.0.1:{port}/catalog",
    )
    findings = examine(settings)
    for what, setting in (
        ("Prefect", "PREFECT_API_URL"),
        ("MLflow", "RADLOOP_MLFLOW_URI"),
        ("Dask", "RADLOOP_DASK_ADDRESS"),
        ("catalog", "RADLOOP_CATALOG_URL"),
    ):
        assert find(findings, what).level == "fail"
        assert setting in find(findings, what).remedy


@pytest.mark.parametrize("address", ["scheduler", "tcp://", "tcp://no-such-host.invalid:8786"])
def test_a_scheduler_address_that_is_none_is_a_finding(address: str, tmp_path: Path) -> None:
    finding = find(examine(Settings(home=tmp_path, dask_address=address)), "Dask")
    assert finding.level == "fail"
    assert finding.remedy


@pytest.mark.parametrize(
    ("address", "warned"),
    [("tcp://0.0.0.0", True), ("tls://0.0.0.0", False), ("tcp://127.0.0.1", False)],
)
def test_a_scheduler_that_is_reached_in_clear_over_a_network_is_a_finding(
    address: str, warned: bool, tmp_path: Path
) -> None:
    with socket.socket() as scheduler:
        scheduler.bind(("127.0.0.1", 0))
        scheduler.listen()
        # Linux takes 0.0.0.0 to this machine, by a name that is not loopback's.
        url = f"{address}:{scheduler.getsockname()[1]}"
        findings = examine(Settings(home=tmp_path, dask_address=url))
    found = [finding for finding in findings if finding.what == "Dask's encryption"]
    assert [finding.level for finding in found] == ["warn"] * warned
    assert all("tls://" in finding.remedy for finding in found)


def test_a_password_in_an_address_is_not_printed(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, mlflow_uri="http://me:hunter2@127.0.0.1:9")
    assert not any("hunter2" in f.value + f.remedy for f in examine(settings))


def test_a_wished_port_that_is_taken_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        finding = find(examine(Settings(home=tmp_path, prefect_port=port)), f"port {port}")
    assert finding.level == "fail"
    assert "RADLOOP_PREFECT_PORT" in finding.remedy


def test_pretended_devices_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    assert find(examine(Settings(home=tmp_path)), "GPU").value == "4 visible"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "CPU" in find(examine(Settings(home=tmp_path)), "GPU").value


def test_the_command_prints_remedies_and_ends_1_on_a_failure(tmp_path: Path) -> None:
    (tmp_path / "vault.db").touch()
    (tmp_path / "vault.db").chmod(0o666)
    done = subprocess.run(
        [script("radloop"), "doctor"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1
    assert "FAIL  vault's mode" in done.stdout
    assert f"chmod 600 {tmp_path / 'vault.db'}" in done.stdout
    assert sys.version.split()[0] in done.stdout
    # The doctor starts nothing.
    assert not (tmp_path / "prefect" / "server.json").exists()
