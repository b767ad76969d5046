"""For authors of plugins: how their code is found, a package to start from, and the contract of a reward."""
