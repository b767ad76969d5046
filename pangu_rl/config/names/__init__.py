"""What a name in a configuration stands for: files, folders, models of a hub, configurations that are shipped."""
