"""Where the rows of files lie, on disk: built once by worker processes, opened memory-mapped by every reader.

files --scan, a range each--> shards (Arrow) --sort by id--> ids (Arrow) --> manifest --> RowIndex
"""
