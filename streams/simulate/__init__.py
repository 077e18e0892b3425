"""Simulated traffic: a scenario, its seeded events, and their way to Kafka."""

from streams.simulate.run import run_simulate, start_of
from streams.simulate.scenario import Scenario, load_scenario, parse_scenario
from streams.simulate.tally import SimulateSummary

__all__ = ["Scenario", "SimulateSummary", "load_scenario", "parse_scenario", "run_simulate", "start_of"]
