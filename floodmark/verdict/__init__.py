"""From what a host wrote to a verdict: tables on one clock, key figures, what holds and what does not."""
