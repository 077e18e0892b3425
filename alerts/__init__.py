"""The life of an alert: pending, firing, resolved; who is told, and what is due when.

Pure: nothing outside :mod:`alerts.sinks` reads a clock, a file, HTTP or Kafka. A transition is decided
in event time (:mod:`alerts.lifecycle`), a delivery in wall-clock time (:mod:`alerts.delivery`); both times
are arguments, in milliseconds since the epoch.
"""
