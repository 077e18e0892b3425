"""The measuring core of fairstream: panes, windows, estimates, detectors.

Pure: nothing in this package reads Kafka, HTTP, a clock, a file or the environment.
Time is always an argument, in milliseconds since the epoch.
"""
