"""The mini-corpus: real pictures, pages, maps, tables and questions of public packages as one set of samples.

`families.py` lists what yields samples, `build.py` writes them, `report.py` and `sheet.py` show what came out.
"""
