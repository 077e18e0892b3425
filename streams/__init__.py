"""Everything Kafka, Faust and the command line."""
