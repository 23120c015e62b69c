"""The frame of a command: options, one line for every mistake, interrupts."""
