"""Results on the disk: the only code that knows where they lie, checks what is read and keeps writers apart."""
