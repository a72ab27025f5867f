"""What is on the disk of runs, labs and suites: their folders, verdicts, records and journals."""
