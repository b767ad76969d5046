"""`python -m pangu_rl` is the same program as `pangu-rl`."""

from pangu_rl.cluster.import_order import reorder_imports

reorder_imports()

from pangu_rl.cli import main  # noqa: E402

main()
