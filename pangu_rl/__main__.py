"""`python -m pangu_rl` is the same program as `pangu-rl`."""

from pangu_rl.cli import main

main()
