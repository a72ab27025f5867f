"""The agent that samples the proxy host while the flood goes on.

It runs on the measured host: Python 3.9 or newer, the standard library and psutil. It knows
nothing of Ansible or of the results folder; it reads one JSON file and writes CSV files.

    agent.py        the loop, the clock, the output; knows no metric
    fields.py       the registry: every column of every table with its unit and its source
    sock_diag.py    the kernel's socket diagnostics over netlink
    loop.py, timer.py, output.py   waiting, keeping the beat, writing without waiting
    exporter.py     the newest values for Prometheus, from a process of its own
    clocks.py       how the clocks of this machine differ, and of which kernel's boot they are
    host.py         what the host is: kernel, sysctls and queue limits as read back
    …               one module for each source, named like its table
"""
