"""A file that does something to the process that decodes it; a module that is imported fast."""

import os
import signal
import time


class EvilPath:
    """A path whose looking at crashes the process, or does not end."""

    def __init__(self, action):
        self.action = action

    def __fspath__(self):
        if self.action == "hang":
            time.sleep(100)
        os.kill(os.getpid(), signal.SIGSEGV)
