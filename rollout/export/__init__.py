"""`pangu-rl export`: stored rollouts -> **training sets**, whole, ordered, and the same bytes every time.

catalogue   the runs as one table in DuckDB, locked away from files and network
filters     what a row must be, counted filter by filter           narrow: positions and a few numbers
selection   which rows the target takes, by row, group or prompt   narrow
stream      those rows in order, a batch at a time                 wide, but bounded
records     rows as the target has them
formats     files, then folder: the whole folder or none
"""
