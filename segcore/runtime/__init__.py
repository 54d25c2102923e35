"""Files that are whole or absent, locks on output folders, worker processes and signals."""
