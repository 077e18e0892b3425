from __future__ import annotations

from pathlib import Path

import pytest

from monitor.config import ConfigError
from streams.simulate.scenario import What, item_share, load_scenario, parse_scenario

HOME = "surfaces: {home: {share: 1}}\n"
TONES = HOME + "items: {attributes: {tone: {a: 0.6, b: 0.4}}}\nactions: {save: {rate: 0.1}}\ndisparities:\n"


def test_the_shipped_scenario_is_the_image_discovery_one() -> None:
    """The scenario that comes with the package has the surfaces and attributes that the README names."""
    scenario = load_scenario()
    assert list(scenario.surfaces) == ["home", "search", "related", "ads"]
    assert list(scenario.viewers.attributes) == ["gender", "age"]
    assert list(scenario.items.attributes) == ["skin_tone", "hair_pattern", "body_type"]
    assert list(scenario.variants) == ["control", "treatment"]
    assert {each.what for each in scenario.disparities} == set(What)


def test_the_shipped_scenario_fits_the_default_number_of_cells() -> None:
    """A surface of the shipped scenario has no more combinations of attributes than the default cap."""
    scenario = load_scenario()
    cells = len(scenario.variants)
    for shares in (*scenario.viewers.attributes.values(), *scenario.items.attributes.values()):
        cells *= len(shares)
    assert cells <= 2_000


def test_a_scenario_file_is_read_and_named_in_errors(tmp_path: Path) -> None:
    """A scenario of one's own is a file, and an error in it names the file and the line."""
    file = tmp_path / "mine.yaml"
    file.write_text(HOME)
    assert load_scenario(file).surfaces["home"].items == 10
    file.write_text("surfaces:\n  home: {share: 0.5}\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml: line 1: surfaces: the shares add up to 0\.5"):
        load_scenario(file)


@pytest.mark.parametrize(
    ("text", "line", "field", "words"),
    [
        ("surfaces: {}", 1, "surfaces", "length >= 1"),
        (HOME + "viewrs: {}", 2, "viewrs", "did you mean viewers?"),
        (
            "surfaces:\n  a: {share: 0.5}\n  b: {share: 0.5, itms: 3}",
            3,
            "surfaces.b.itms",
            "did you mean items?",
        ),
        ("surfaces:\n  a: {share: 0.5}\n  b: {share: -1}", 3, "surfaces.b.share", ">= 0"),
        (HOME + "variants: {a: 0.5, b: 0.6}", 2, "variants", "add up to 1.1"),
        (HOME + "viewers:\n  attributes: {x: {y: 0.2}}", 3, "viewers.attributes.x", "add up to 0.2"),
        (HOME + "viewers: {session_gap: 30}", 2, "viewers.session_gap", "followed by ms, s, m, h or d"),
        (HOME + "items: {per_combination: 3}", 2, "items.per_combination", "at least 10"),
        (HOME + "position_effect: 0", 2, "position_effect", "> 0"),
        (TONES + "- {who: {item.tone: a}, what: hidden, factor: 1}", 5, "what", "shown, ranked, engaged"),
        (TONES + "- {who: {item.tone: z}, what: shown, factor: 1}", 5, "who.item.tone", "a, b"),
        (TONES + "- {who: {item.hair: z}, what: shown, factor: 1}", 5, "who.item.hair", "item.tone"),
        (TONES + "- {who: {surface: home}, what: shown, factor: 1}", 5, "who", "item.NAME"),
        (TONES + "- {who: {item.tone: a}, what: shown, factor: 2}", 5, "factor", "below 1.67"),
        (
            TONES + "- {who: {item.tone: a}, what: ranked, action: save, factor: 2}",
            5,
            "action",
            "leave it out",
        ),
        (TONES + "- {who: {}, what: engaged, action: like, factor: 2}", 5, "action", "save"),
        (TONES + "- {who: {}, what: engaged, factor: 2, from: 2h, to: 2h}", 5, "to", "a later time"),
    ],
)
def test_a_wrong_scenario_names_line_field_and_what_is_allowed(
    text: str, line: int, field: str, words: str
) -> None:
    """Each mistake is told by line and field with what would be right."""
    with pytest.raises(ConfigError) as caught:
        parse_scenario(text)
    problem = caught.value.problems[0]
    assert problem.line == line
    assert problem.field.endswith(field)
    assert words in str(problem)


def test_the_share_of_a_group_is_the_product_over_its_attributes() -> None:
    """The natural share of a group multiplies over attributes and adds over the values of one."""
    scenario = load_scenario()
    assert item_share(scenario, {"item.skin_tone": ["3", "4"]}) == pytest.approx(0.32)
    assert item_share(scenario, {"item.skin_tone": "4", "item.body_type": "large"}) == pytest.approx(
        0.12 * 0.22
    )
    assert item_share(scenario, {"viewer.gender": "f"}) == pytest.approx(1)
