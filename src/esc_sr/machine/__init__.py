"""What a machine gives: devices, memory, precisions of arithmetic, files that are written whole."""
