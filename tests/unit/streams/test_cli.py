from __future__ import annotations

import json
from pathlib import Path

import pytest

from streams.cli import main
from streams.exits import EX_CONFIG, EX_UNAVAILABLE
from tests.support.ports import free_port

FULL = Path(__file__).parents[3] / "deploy" / "fairstream.yaml"
GOOD = """\
surfaces: [home, search]
attributes:
  viewer: {gender: {values: [f, m, x]}}
  item: {skin_tone: {}}
windows:
  - {length: 1h, slide: 1m}
engagement: {actions: [save]}
rules:
  - name: tone
    metric: exposure_share
    dimension: item.skin_tone
    window: 1h
    compare: reference
    reference: {baseline: {first: 3d}}
  - name: saves
    metric: engagement_rate
    action: save
    dimension: viewer.gender
    window: 1h
    surfaces: [home]
"""


@pytest.fixture
def config_file(tmp_path: Path) -> Path:
    """A good configuration."""
    file = tmp_path / "fairstream.yaml"
    file.write_text(GOOD)
    return file


def test_check_says_what_would_be_watched(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`check` names surfaces, windows, dimensions, rules and the number of series."""
    assert main(["check", "--config", str(config_file)]) == 0
    said = capsys.readouterr().out
    for words in ("home, search", "1h every 1m", "item.skin_tone, viewer.gender", "rules       2; 3 series"):
        assert words in said


def test_a_rule_on_requests_is_one_series(
    config_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a surface, against the targets of its ranking, within a limit of one side."""
    monkeypatch.setenv("COLUMNS", "200")
    rule = "{name: lists, metric: ndkl, dimension: item.skin_tone, window: 1h, tolerance: {high: 0.3}}"
    ranking = "{dimension: item.skin_tone, targets: {a: 0.6, b: 0.4}}"
    before, _ = GOOD.split("  - name: tone")
    config_file.write_text(f"{before}  - {rule}\nrankings: [{ranking}]\n")
    assert main(["check", "--config", str(config_file)]) == 0
    said = capsys.readouterr().out
    for words in ("rules       1; 2 series (", "ndkl of item.skin_tone", "the ranking's targets", "to 0.3"):
        assert words in said


def test_check_names_what_shares_are_held_against(
    config_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Candidates are not equal shares."""
    monkeypatch.setenv("COLUMNS", "200")
    config_file.write_text(
        GOOD.replace("{baseline: {first: 3d}}", "{candidates: true}") + "candidates: true\n"
    )
    assert main(["check", "--config", str(config_file)]) == 0
    said = capsys.readouterr().out
    assert "candidates" in said
    assert "equal shares" not in said


def test_check_says_what_the_budget_sees(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`check --traffic` adds the disparities that are seen in an hour, a day and a week, for each slice."""
    monkeypatch.setenv("COLUMNS", "200")
    command = ["check", "--config", str(FULL), "--traffic", "6000"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "false pages 1 per 30d at most from 2 rules with an e_detector; no guarantee for home-skin" in out
    assert "a week" in out
    assert out.count("ads-skin-tone-targets") == 5  # a rule, and four slices


@pytest.mark.parametrize("traffic", ["0", "-5", "nan", "many"])
def test_check_refuses_traffic_that_is_none(traffic: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Not a number above 0 is wrong usage."""
    with pytest.raises(SystemExit) as stopped:
        main(["check", "--config", str(FULL), "--traffic", traffic])
    assert stopped.value.code == 2
    assert "--traffic" in capsys.readouterr().err


def test_check_prints_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    """`check --schema` prints a JSON Schema with the configuration's fields."""
    assert main(["check", "--schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    assert {"surfaces", "windows", "rules"} <= schema["$defs"]["Config"]["properties"].keys()


def test_the_committed_schema_is_the_generated_one(capsys: pytest.CaptureFixture[str]) -> None:
    """Editors read `deploy/fairstream.schema.json`; it is what `check --schema` prints."""
    main(["check", "--schema"])
    committed = Path(__file__).parents[3] / "deploy" / "fairstream.schema.json"
    assert committed.read_text(encoding="utf-8") == capsys.readouterr().out


@pytest.mark.parametrize("command", ["check", "run", "aggregate", "monitor", "notify", "simulate", "topics"])
def test_a_bad_configuration_ends_every_command_with_78(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message has file, line, field, value, what was wrong and what would be right."""
    file = tmp_path / "bad.yaml"
    file.write_text(GOOD.replace("slide: 1m", "slide: 7s"))
    assert main([command, "--config", str(file)]) == EX_CONFIG == 78
    said = capsys.readouterr().err
    assert said.startswith(
        f"{file}: line 6: windows[0].slide = '7s': not a multiple of time.pane (10s); allowed: "
    )


def test_a_missing_file_is_a_bad_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A configuration that is not there ends with 78 and says so."""
    assert main(["check", "--config", str(tmp_path / "none.yaml")]) == EX_CONFIG
    assert "No such file" in capsys.readouterr().err


def test_no_broker_is_unavailable(config_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`topics` without a broker ends with 69, which is not the configuration's fault."""
    config_file.write_text(GOOD + f'kafka: {{bootstrap: "127.0.0.1:{free_port()}"}}\n')
    assert main(["topics", "--config", str(config_file), "--timeout", "1s"]) == EX_UNAVAILABLE == 69
    assert "kafka" in capsys.readouterr().err


def test_wrong_usage_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    """An unknown command is argparse's to refuse."""
    with pytest.raises(SystemExit) as ended:
        main(["explode"])
    assert ended.value.code == 2
    assert "invalid choice" in capsys.readouterr().err
