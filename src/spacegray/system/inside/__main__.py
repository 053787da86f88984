"""Entry point for mmdebstrap's hook: `python3 -I FOLDER/lib/.../inside ROOT FOLDER`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from spacegray.system.inside.pack import main

main(Path(sys.argv[1]), Path(sys.argv[2]))
