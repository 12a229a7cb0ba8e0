"""The networks: plain torch modules, no I/O."""
