"""Files in object storage, as local copies: `s3://bucket/a` -> a path in the cache -> fetched when it is opened."""
