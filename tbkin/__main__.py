"""``python -m tbkin VERB …``."""

import sys

from tbkin.cli import entry

if __name__ == "__main__":
    sys.exit(entry())
