"""Making runs: the plan of one, the processes of its flood, and labs, suites and searches made of several."""
