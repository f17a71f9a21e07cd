"""The command line: arguments to one library call to a few printed lines."""
