"""The report of runs: one HTML file.

measured.py     what is known of a run: settings, history, scores, codes, KL per dimension
measure.py      measures a run
references.py   what simple methods and the original reports score
pictures.py     images as PNG data
charts.py       curves and bars as SVG
page.py         the page, from templates/
"""
