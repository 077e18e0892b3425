"""What the tests run on: ports, waiting, child processes, and the real servers around fairstream."""
