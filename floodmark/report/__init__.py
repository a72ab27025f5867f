"""Pages that people look at: a report of each run, an overview of all runs, comparisons.

Each page is one file that needs nothing from elsewhere. What is drawn is drawn twice: as SVG by `svg.py`, which needs
no script and is printed, and on a screen by uPlot, in which one can zoom. uPlot is what the live page uses, has
51 kB, and draws 100,000 points in some ten milliseconds; Plotly alone has 4.5 MB, and a report shall have less than 3.

    series.py      the tables of a host -> lines of so many points that no peak is lost
    figures.py     what is drawn of a run
    svg.py         the same without a script
    multiples.py   the same figure of several runs side by side
    run.py         the report of a run
    lab.py         the runs of a lab side by side
    index.py       all runs
    comparison.py  a comparison of runs
    pages.py       what all pages have in common
"""
