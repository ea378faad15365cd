"""`python -m paligax` is the same as `paligax`."""

import sys

from paligax.cli import main

sys.exit(main())
