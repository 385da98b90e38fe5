"""One command as a whole process: its seconds, its processor's seconds, its memory, as JSON on the last line.

    python -IS benchmarks/whole_process.py /usr/bin/python3 program.py ...

Imports next to nothing: Linux counts the memory of the process that starts a program into the peak of the program.
What a command starts and waits for counts as its own. Needs os.wait4, which Windows has not.
"""

import json
import os
import sys
import time


def main() -> None:
    command = sys.argv[1:]
    began = time.perf_counter()
    process = os.posix_spawn(command[0], command, os.environ)
    _, status, used = os.wait4(process, 0)
    seconds = time.perf_counter() - began
    peak_bytes = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    measured = {
        "exit_code": os.waitstatus_to_exitcode(status),
        "seconds": seconds,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "peak_bytes": peak_bytes,
    }
    print(f"\n{json.dumps(measured)}")


if __name__ == "__main__":
    main()
