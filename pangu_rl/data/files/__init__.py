"""Rows as they lie in files: JSONL, Parquet, WebDataset shards, saved folders of datasets."""
