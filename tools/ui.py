"""Open ComfyUI with this pack in a browser; Ctrl-C ends it."""

import argparse
import socket
import sys
import webbrowser
from pathlib import Path

PORT = 8188


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="launch.py ui", description=__doc__)
    parser.add_argument("--port", type=int, help=f"port to listen on (default {PORT}, or a free one when it is taken)")
    parser.add_argument("--no-browser", action="store_true", help="only print the address")
    return parser.parse_args()


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def main() -> int:
    options = arguments()
    import host

    port = options.port or (PORT if is_free(PORT) else host.free_port())
    folder = Path(host.data_folder())
    try:
        with host.Host(host.tree(), folder / "host.log", host.working_arguments(folder), port=port) as running:
            print(f"ComfyUI with Bloom4D: {running.url}   (log: {running.log}; Ctrl-C ends it)", flush=True)
            if not options.no_browser:
                webbrowser.open(running.url)
            return running.process.wait()
    except host.HostFailed as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print()
        return 0


if __name__ == "__main__":
    sys.exit(main())
