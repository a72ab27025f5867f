"""What people write and Floodmark checks: parameters, cases, labs, suites, and what an inventory says."""
