"""Files of Arrow's -> **raw rows**: Parquet, and folders saved by `datasets`."""
