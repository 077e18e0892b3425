from __future__ import annotations

import msgspec
import pytest

from alerts.events import EventReason, EventState, alert_id, decode_event, encode_event
from alerts.state import Phase, Run, decode_state, encode_state, series_key
from alerts.summary import summarise
from monitor.config import Compare, DetectorKind, Metric
from monitor.verdicts import Direction, Estimate, Outcome, UnknownVersionError, Verdict
from tests.support.timelines import (
    SERIES,
    START_MS,
    Timeline,
    a_rule,
    a_verdict,
    an_event,
    breach,
    insufficient,
)


def test_an_event_survives_its_encoding() -> None:
    """Decoding gives back what was encoded."""
    event = an_event(EventState.FIRING, 60)
    assert decode_event(encode_event(event)) == event


def test_an_event_has_the_fields_of_the_contract() -> None:
    """The JSON names are those that others read."""
    record = msgspec.json.decode(encode_event(an_event(EventState.FIRING, 60)))
    assert set(record) == {
        *("id", "rule", "severity", "surface", "dimension", "slice", "state", "reason", "at_ms", "since_ms"),
        *("verdict", "summary", "runbook_url", "dashboard_url", "labels", "version"),
    }
    assert (record["slice"], record["state"], record["verdict"]["slice"]) == ("4", "firing", "4")


def test_a_newer_event_is_refused() -> None:
    """A record of a version that this program does not know is not guessed at."""
    record = msgspec.json.decode(encode_event(an_event(EventState.FIRING)))
    with pytest.raises(UnknownVersionError):
        decode_event(msgspec.json.encode(record | {"version": 2}))


def test_a_broken_event_is_refused() -> None:
    """What is not an event raises msgspec's error."""
    with pytest.raises(msgspec.DecodeError):
        decode_event(b'{"id": 1}')


def test_a_state_survives_its_encoding() -> None:
    """All of it: phase, runs, last verdict, last event, receipts."""
    line = Timeline(a_rule(hold_s=20, clear_for_s=30)).between(0, 30, breach()).at(30, breach(2.0))
    state = msgspec.structs.replace(line.known, receipts={"slack": line.events[-1].transition})
    assert state.phase is Phase.FIRING
    assert state.breach == Run.at(START_MS + 30_000)
    assert decode_state(encode_state(state)) == state


def test_a_newer_state_is_refused() -> None:
    """A downgrade does not misread the table."""
    state = Timeline(a_rule()).at(0, breach()).known
    with pytest.raises(UnknownVersionError):
        decode_state(encode_state(msgspec.structs.replace(state, version=2)))


def test_phases_are_numbered_as_the_metric_says() -> None:
    """0 inactive, 1 pending, 2 firing."""
    assert [phase.number for phase in (Phase.INACTIVE, Phase.PENDING, Phase.FIRING)] == [0, 1, 2]


def test_an_id_depends_on_all_that_names_an_episode() -> None:
    """Another rule, surface, dimension, slice or begin is another alert, and nothing runs together."""
    rule, surface, dimension, slice_ = SERIES
    others = [
        ("x", surface, dimension, slice_),
        (rule, "x", dimension, slice_),
        (rule, surface, "x", slice_),
        (rule, surface, dimension, "x"),
        ("a", "bc", "d", "e"),
        ("ab", "c", "d", "e"),
    ]
    assert len({alert_id(series, 1) for series in [SERIES, *others]} | {alert_id(SERIES, 2)}) == 8
    assert len({series_key(series) for series in [SERIES, *others]}) == 7


# ---------------------------------------------------------------- summaries


def test_a_summary_says_it_in_plain_words() -> None:
    """Who, what, how far from the reference, with its interval, and what is tolerated."""
    verdict = breach(0.52, share=0.081, reference=0.156)
    verdict = msgspec.structs.replace(
        verdict, estimate=msgspec.structs.replace(verdict.estimate, lower=0.44, upper=0.61)
    )
    assert summarise(verdict, a_rule(), EventReason.BREACH_HELD) == (
        "item.skin_tone=4 on home: exposure share 8.1 %, 0.52 of its reference 15.6 % (0.44 to 0.61); "
        "tolerated from 0.8"
    )


def test_the_summary_of_a_rule_comes_first() -> None:
    """A rule's own words are put before the facts."""
    text = summarise(breach(), a_rule(summary="Dark skin tones are shown less."), EventReason.BREACH_HELD)
    assert text.startswith("Dark skin tones are shown less. item.skin_tone=4 on home: exposure share 0.50 of")


def test_the_summary_of_an_intersection_names_its_parts() -> None:
    """Each attribute stands with its own value."""
    verdict = breach(dimension="viewer.gender*item.skin_tone", slice_="f*4")
    assert "viewer.gender=f, item.skin_tone=4 on home" in summarise(
        verdict, a_rule(), EventReason.BREACH_HELD
    )


ENGAGEMENT = a_rule(metric=Metric.ENGAGEMENT_RATE, action="save", compare=Compare.REST)


@pytest.mark.parametrize(
    ("verdict", "reason", "expected"),
    [
        (
            breach(2.0),
            EventReason.BREACH_HELD,
            "save rate 2.00 of the rest's (1.80 to 2.20); tolerated up to 1.25",
        ),
        (
            breach(0.5, share=0.02, reference=0.04),
            EventReason.BREACH_HELD,
            "save rate 2.0 %, 0.50 of the rest's 4.0 % (0.45 to 0.55); tolerated from 0.8",
        ),
        (breach(0.004), EventReason.BREACH_HELD, "save rate 0.004 of the rest's"),
        (breach(0.0), EventReason.BREACH_HELD, "save rate 0.00 of the rest's"),
        (
            breach(0.5, direction=Direction.NONE, detector=DetectorKind.ADWIN),
            EventReason.BREACH_HELD,
            "tolerated from 0.8 up to 1.25; adwin decided",
        ),
        (insufficient(), EventReason.DATA_GONE, "save rate unknown (12 of 100 impressions); too little data"),
        (a_verdict(Outcome.OK, value=0.9), EventReason.CLEARED, "; cleared"),
        (
            msgspec.structs.replace(breach(), estimate=Estimate(), share=None, reason="suppressed"),
            EventReason.BREACH_HELD,
            "save rate too low for a number (suppressed); tolerated from 0.8",
        ),
    ],
)
def test_a_summary_fits_its_case(verdict: Verdict, reason: EventReason, expected: str) -> None:
    """Both sides, tiny ratios, detectors other than the tolerance, no data, and the end."""
    assert expected in summarise(verdict, ENGAGEMENT, reason)


def test_metrics_with_parity_0_say_what_their_number_is() -> None:
    """A skew is a logarithm, a difference is in the unit of the rate; both have a sign."""
    skew = a_rule(metric=Metric.SKEW_AT_K)
    text = summarise(breach(-0.65, share=0.081, reference=0.156), skew, EventReason.BREACH_HELD)
    assert "share of the top positions 8.1 %, skew -0.65 to its reference 15.6 % (" in text
    apart = a_rule(metric=Metric.ENGAGEMENT_RATE_DIFFERENCE, action="save", compare=Compare.REST)
    text = summarise(breach(-0.013, share=0.02, reference=0.033), apart, EventReason.BREACH_HELD)
    assert "save rate 2.0 %, difference -0.013 to the rest's 3.3 % (" in text


def test_an_exposure_rate_is_no_percentage() -> None:
    """Exposure per impression is in units of attention: only its ratio to the rest says something."""
    rule = a_rule(metric=Metric.EXPOSURE_RATE, compare=Compare.REST)
    text = summarise(breach(share=3.1, reference=6.2), rule, EventReason.BREACH_HELD)
    assert "exposure per impression 0.50 of the rest's (0.45" in text


@pytest.mark.parametrize(("share", "expected"), [(1.0, "100.0 %"), (0.0, "0.0 %"), (0.00034, "0.034 %")])
def test_shares_are_readable_at_any_size(share: float, expected: str) -> None:
    """A small share does not become zero."""
    assert f"exposure share {expected}," in summarise(breach(share=share), a_rule(), EventReason.BREACH_HELD)
