"""`fastconv report`: every operation proven equal to the plain loops, timed, and shown in the terminal, on a page and as JSON.

run.py          the whole report: which cases, within which time, and the two files
operations.py   what is measured: one row an operation, and the layers of a quick run
photo.py        real input: crops of a photograph
truth.py        the operations in plain NumPy, the float64 truth for whole layers
measure.py      how one case is proven and timed
peaks.py        what rates are compared with
figures.py      how figures are written
terminal.py     progress and table
page.py         page.html filled in
charts.py       its charts
"""
